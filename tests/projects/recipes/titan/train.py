"""Train a small network and log in the style of torchtitan: every value has a colour, and every rank logs."""

import os
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

steps = int(os.environ.get("STEPS", "20"))
dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
rank, world = dist.get_rank(), dist.get_world_size()
red, green, yellow, blue, reset = (f"\x1b[{code}m" for code in (31, 32, 33, 34, 39))
print(f"[titan] 2026-11-30 12:00:00,000 - root - INFO - rank {rank} of {world}", flush=True)
model = DistributedDataParallel(torch.nn.Linear(8, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for step in range(1, steps + 1):
    began = time.perf_counter()
    batch = torch.randn(64, 8)
    loss = (model(batch) - batch.sum(1, keepdim=True)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    speed = round(64 / (time.perf_counter() - began))
    print(
        f"[titan] 2026-11-30 12:00:00,000 - root - INFO - {red}step: {step:2}  {green}loss: {loss.item():7.4f}  "
        f"{yellow}memory:  0.00GiB(0.00%)  {blue}tps: {speed:,}  {reset}",
        flush=True,
    )
print(f"rank {rank} done", flush=True)
dist.barrier()
dist.destroy_process_group()
