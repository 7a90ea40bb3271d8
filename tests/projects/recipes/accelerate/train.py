"""Train a small network with accelerate."""

import os

import torch
from accelerate import Accelerator

steps = int(os.environ.get("STEPS", "20"))
accelerator = Accelerator(cpu=not torch.cuda.is_available())
print(f"rank {accelerator.process_index} of {accelerator.num_processes}", flush=True)
torch.manual_seed(0)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.utils.data.TensorDataset(torch.randn(4 * steps * accelerator.num_processes, 8))
model, optimizer, batches = accelerator.prepare(model, optimizer, torch.utils.data.DataLoader(data, batch_size=4))
for step, (batch,) in enumerate(batches, 1):
    loss = (model(batch) - batch.sum(1, keepdim=True)).pow(2).mean()
    optimizer.zero_grad()
    accelerator.backward(loss)
    optimizer.step()
    if accelerator.is_main_process:
        print(f"step {step}/{steps} loss {loss.item():.4f}", flush=True)
print(f"rank {accelerator.process_index} done", flush=True)
accelerator.wait_for_everyone()
accelerator.end_training()
