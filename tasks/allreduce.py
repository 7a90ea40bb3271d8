"""All-reduce speed over a range of tensor sizes: rank 0 prints a table, and each rank verifies each sum."""

from __future__ import annotations

import argparse
import os
import sys
import time

import torch
import torch.distributed as dist
from llada2 import world
from llada2.errors import UserError


def parser() -> argparse.ArgumentParser:
    """Return the options of the measurement."""
    p = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    p.add_argument("--min-bytes", type=int, default=1 << 10)
    p.add_argument("--max-bytes", type=int, default=1 << 24)
    p.add_argument("--factor", type=int, default=4, help="from one size to the next (default %(default)s)")
    p.add_argument("--iterations", type=int, default=10)
    p.add_argument("--backend", choices=["auto", "gloo", "nccl"], default="auto")
    return p


def pattern(count: int, device: torch.device) -> torch.Tensor:
    """Return 0, 1, … 250, 0, 1, …: fp32 holds its sums over up to 360 ranks, each times (rank + 1), exactly."""
    return (torch.arange(count, device=device) % 251).float()


def wrong_places(count: int, rank: int, size: int, device: torch.device) -> int:
    """Return how many of ``count`` elements of a sum over the ranks are wrong."""
    base = pattern(count, device)
    tensor = base * (rank + 1)
    dist.all_reduce(tensor)
    return int((tensor != base * (size * (size + 1) // 2)).sum())


def seconds(count: int, iterations: int, device: torch.device) -> float:
    """Measure the mean time of one all-reduce of ``count`` fp32 numbers; return that of the slowest rank."""
    tensor = torch.zeros(count, device=device)
    for _ in range(2):
        dist.all_reduce(tensor)
    dist.barrier()
    began = time.perf_counter()
    for _ in range(iterations):
        dist.all_reduce(tensor)
    if device.type == "cuda":
        torch.cuda.synchronize()
    took = torch.tensor([(time.perf_counter() - began) / iterations], device=device)
    dist.all_reduce(took, dist.ReduceOp.MAX)
    return float(took)


def measure(options: argparse.Namespace, rank: int, size: int, device: torch.device) -> bool:
    """Print the table on rank 0; return whether every sum was right on this rank."""
    if rank == 0:
        print(f"{'bytes':>12} {'time ms':>10} {'algbw GB/s':>11} {'busbw GB/s':>11}  sum", flush=True)
    right, volume = True, options.min_bytes
    while volume <= options.max_bytes:
        count = max(1, volume // 4)
        wrong = wrong_places(count, rank, size, device)
        took = seconds(count, options.iterations, device)
        algorithm = count * 4 / took / 1e9
        bus = algorithm * 2 * (size - 1) / size  # what crosses the wire in a ring, as nccl-tests count it
        if rank == 0:
            verdict = "right" if not wrong else "WRONG"
            print(f"{count * 4:>12} {took * 1e3:>10.3f} {algorithm:>11.3f} {bus:>11.3f}  {verdict}", flush=True)
        if wrong:
            print(f"rank {rank}: {wrong} of {count} elements are wrong", file=sys.stderr, flush=True)
            right = False
        volume *= options.factor
    return right


def main(arguments: list[str]) -> int:
    """Return 0 if every sum was right on every rank, 1 if one was not, 2 for a wrong option."""
    options = parser().parse_args(arguments)
    if not (0 < options.min_bytes <= options.max_bytes and options.factor > 1 and options.iterations > 0):
        print("error: wants 0 < --min-bytes <= --max-bytes, --factor above 1, --iterations above 0", file=sys.stderr)
        return 2
    if "MASTER_ADDR" not in os.environ:
        print(
            "error: start this with torchrun, e.g. NPROC_PER_NODE=2 bash train.sh tasks/allreduce.py", file=sys.stderr
        )
        return 2
    wanted = {"auto": "auto", "gloo": "cpu", "nccl": "cuda"}[options.backend]
    local_rank, local_size = world.from_environment("LOCAL_RANK", 0), world.from_environment("LOCAL_WORLD_SIZE", 1)
    try:
        device = world.choose_device(wanted, local_rank, local_size, "--backend nccl")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend)
    rank, size = dist.get_rank(), dist.get_world_size()
    if rank == 0:
        print(f"all-reduce over {size} ranks, {backend}, fp32, mean of {options.iterations}", flush=True)
    bad = torch.tensor([0 if measure(options, rank, size, device) else 1], device=device)
    dist.all_reduce(bad)
    dist.barrier()
    dist.destroy_process_group()
    return 1 if int(bad) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
