"""Train a small network and log in the style of nanoGPT: only rank 0 logs."""

import os
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

steps = int(os.environ.get("STEPS", "20"))
dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
rank, world = dist.get_rank(), dist.get_world_size()
print(f"rank {rank} of {world}", flush=True)
print(f"tokens per iteration will be: {world * 64 * 8:,}", flush=True)
model = DistributedDataParallel(torch.nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for step in range(steps + 1):
    began = time.perf_counter()
    batch = torch.randn(64, 8)
    loss = (model(batch) - batch.sum(1, keepdim=True)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if rank == 0:
        print(
            f"iter {step}: loss {loss.item():.4f}, time {1000 * (time.perf_counter() - began):.2f}ms, mfu -100.00%",
            flush=True,
        )
print(f"rank {rank} done", flush=True)
dist.barrier()
dist.destroy_process_group()
