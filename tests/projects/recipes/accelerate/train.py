"""Train a small network with accelerate."""

import torch
from accelerate import Accelerator

accelerator = Accelerator(cpu=not torch.cuda.is_available())
print(f"rank {accelerator.process_index} of {accelerator.num_processes}", flush=True)
torch.manual_seed(0)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.utils.data.TensorDataset(torch.randn(320, 8))
model, optimizer, batches = accelerator.prepare(model, optimizer, torch.utils.data.DataLoader(data, batch_size=4))
for epoch in range(100):
    for step, (batch,) in enumerate(batches, 1):
        loss = (model(batch) - batch.sum(1, keepdim=True)).pow(2).mean()
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        accelerator.print(f"epoch {epoch} step {step}/{len(batches)} loss {loss.item():.4f}", flush=True)
    if epoch == 0:
        break
print(f"rank {accelerator.process_index} done", flush=True)
accelerator.end_training()
