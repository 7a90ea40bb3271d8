"""Train a small network with DeepSpeed."""

import os

import deepspeed
import torch

if not torch.cuda.is_available():  # else DeepSpeed compiles an extension for CPUs, which takes minutes
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
steps = int(os.environ.get("STEPS", "20"))
deepspeed.init_distributed()
rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
print(f"rank {rank} of {world}", flush=True)
settings = {
    "train_micro_batch_size_per_gpu": 4,
    "steps_per_print": 5,
    "wall_clock_breakdown": False,
    "zero_optimization": {"stage": 1},
}
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
for step in range(1, steps + 1):
    batch = torch.randn(4, 8, device=engine.device)
    loss = (engine(batch) - batch.sum(1, keepdim=True)).pow(2).mean()
    engine.backward(loss)
    engine.step()
    if rank == 0:
        print(f"step {step}/{steps} loss {loss.item():.4f}", flush=True)
print(f"rank {rank} done", flush=True)
torch.distributed.barrier()
torch.distributed.destroy_process_group()
