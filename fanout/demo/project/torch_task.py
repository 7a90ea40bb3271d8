"""Task of `fanout demo` where torch is installed: train a small model with torch.distributed on several hosts."""

from __future__ import annotations

import time

import torch
import torch.distributed as dist

STEPS, STEP_SECONDS = 60, 0.1
TRUE_WEIGHTS = (3.0, -2.0, 0.5, 1.0)
BATCH, LEARNING_RATE = 64, 0.1


def train() -> None:
    """Train the weights; all ranks apply the mean gradient of all ranks."""
    generator = torch.Generator().manual_seed(dist.get_rank())
    truth, weights = torch.tensor(TRUE_WEIGHTS), torch.zeros(len(TRUE_WEIGHTS))
    for step in range(1, STEPS + 1):
        weights.requires_grad_(True)
        inputs = torch.randn(BATCH, len(TRUE_WEIGHTS), generator=generator)
        targets = inputs @ truth + 0.3 * torch.randn(BATCH, generator=generator)
        loss = ((inputs @ weights - targets) ** 2).mean()
        (gradient,) = torch.autograd.grad(loss, weights)
        shared = torch.cat([loss.detach().reshape(1), gradient])
        dist.all_reduce(shared)
        shared /= dist.get_world_size()
        weights = weights.detach() - LEARNING_RATE * shared[1:]
        time.sleep(STEP_SECONDS)
        if step == 1 or step % 5 == 0:
            print(f"step {step}/{STEPS} loss {shared[0]:.4f}", flush=True)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    train()
    dist.destroy_process_group()
