"""Small training task on CPUs for the restart benchmark: an all-reduce a step, a checkpoint every 20 steps.

Each rank appends its first step of each attempt, and every tenth one, to ``marks``: time, pid, world size, step.
"""

import os
import time
from datetime import timedelta

import torch
import torch.distributed as dist

EVERY = 20
dist.init_process_group("gloo", timeout=timedelta(seconds=30))
rank, world = dist.get_rank(), dist.get_world_size()
begin = 0
if os.path.exists("checkpoint"):
    with open("checkpoint") as file:
        begin = int(file.read())
for step in range(begin + 1, 1_000_000):
    total = torch.ones(1)
    dist.all_reduce(total)
    assert total.item() == world
    time.sleep(0.05)
    if step == begin + 1 or step % 10 == 0:
        with open("marks", "a") as file:
            file.write(f"{time.monotonic():.3f} {os.uname().nodename}-{os.getpid()} {world} {step}\n")
        print(f"step {step}/1000000 loss {1 / step:.4f}", flush=True)
    if rank == 0 and step % EVERY == 0:
        with open("checkpoint.new", "w") as file:
            file.write(f"{step}")
        os.replace("checkpoint.new", "checkpoint")
