"""Each rank prints its identity and its arguments; then a real all-reduce shows that the ranks are connected."""

from __future__ import annotations

import os
import socket
import sys

import torch
import torch.distributed as dist
from llada2 import world
from llada2.errors import UserError

EXPORTS = ("MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "PYTHONPATH")


def main() -> int:
    """Return 0 if the sum over all ranks is right, else 1; 2 if a host has more ranks than GPUs."""
    local_rank, local_size = world.from_environment("LOCAL_RANK", 0), world.from_environment("LOCAL_WORLD_SIZE", 1)
    try:
        device = world.choose_device("auto", local_rank, local_size)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if "MASTER_ADDR" in os.environ:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    else:
        print("hello: not started by torchrun: alone", flush=True)
        store = dist.HashStore()  # type: ignore[attr-defined]
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)
        device = torch.device("cpu")
    rank, size = dist.get_rank(), dist.get_world_size()
    exports = " ".join(f"{name}={os.environ.get(name, '(unset)')}" for name in EXPORTS)
    where = f"rank {rank}/{size} (node {os.environ.get('GROUP_RANK', '0')}, local {local_rank})"
    # One write a line: two ranks' lines must not mix.
    sys.stdout.write(f"hello from {where} on {socket.gethostname()} pid {os.getpid()} {device}: {exports}\n")
    sys.stdout.flush()
    total = torch.tensor([rank, 1], device=device)
    dist.all_reduce(total)
    expected = [size * (size - 1) // 2, size]
    right = total.tolist() == expected
    if rank == 0 or not right:
        verdict = "right" if right else "WRONG"
        print(f"rank {rank}: all-reduce of [rank, 1] gave {total.tolist()}, expected {expected}: {verdict}", flush=True)
    dist.barrier()
    dist.destroy_process_group()
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
