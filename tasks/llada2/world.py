"""The ranks of this run: join them, agree on errors, sum numbers, and leave in order."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from .errors import UserError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The rank of this process, and the number of ranks."""

    rank: int
    local_rank: int
    size: int
    local_size: int
    device: torch.device
    host: str

    @property
    def first(self) -> bool:
        """Return whether this is rank 0, the rank that prints."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """Return the sum of each number over all ranks."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor.tolist()

    def gather(self, value: Any) -> list[Any]:
        """Return the ``value`` of every rank, on every rank."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def together(self, work: Callable[[], T]) -> T:
        """Run ``work`` on every rank; raise a UserError of any rank on all ranks, so that none waits for it."""
        result, mistake = None, ""
        try:
            result = work()
        except UserError as error:
            mistake = str(error)
        mistakes = [(host, text) for host, text in self.gather((self.host, mistake)) if text]
        if mistakes:
            host, text = mistakes[0]
            where = "" if len(mistakes) == self.size else f"on {host}: "
            raise UserError(f"{where}{text}")
        return result  # type: ignore[return-value]


def from_environment(name: str, default: int) -> int:
    """Return an integer that torchrun exports (RANK, LOCAL_RANK, WORLD_SIZE …); ``default`` outside torchrun."""
    return int(os.environ.get(name) or default)


def choose_device(wanted: str, local_rank: int, local_size: int, asked: str = "cuda") -> torch.device:
    """Return ``cuda:LOCAL_RANK`` if there is a GPU, else the CPU; ``asked`` is the option that demands a GPU."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(f"{asked}: torch sees no GPU here; leave that out, or install torch with CUDA")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"{local_size} processes were started on {socket.gethostname()}, which has {torch.cuda.device_count()} "
            "visible GPUs; lower NPROC_PER_NODE, or change CUDA_VISIBLE_DEVICES"
        )
    return torch.device("cuda", local_rank)


def join(wanted_device: str, timeout_s: int, *, offload: bool = False) -> World:
    """Enter the process group: nccl on GPUs, gloo on CPUs; alone when torchrun did not start this process.

    With ``offload`` ranks on GPUs also sum tensors in the host's memory, which nccl cannot do.
    """
    rank, size = from_environment("RANK", 0), from_environment("WORLD_SIZE", 1)
    local_rank, local_size = from_environment("LOCAL_RANK", 0), from_environment("LOCAL_WORLD_SIZE", 1)
    device = choose_device(wanted_device, local_rank, local_size, "train.device cuda")
    options: dict[str, Any] = {"timeout": timedelta(seconds=timeout_s), "rank": rank, "world_size": size}
    if device.type == "cuda":
        torch.cuda.set_device(device)
        options["device_id"] = device
    if "MASTER_ADDR" not in os.environ:
        options["store"] = dist.HashStore()  # type: ignore[attr-defined]
    on_gpu = "cpu:gloo,cuda:nccl" if offload else "nccl"
    dist.init_process_group(on_gpu if device.type == "cuda" else "gloo", **options)
    host = socket.gethostname()
    return World(rank=rank, local_rank=local_rank, size=size, local_size=local_size, device=device, host=host)


def leave() -> None:
    """Wait for all ranks, then close: without the barrier, gloo aborts a rank in 1 run of 15."""
    dist.barrier()
    dist.destroy_process_group()
