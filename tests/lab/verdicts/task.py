"""A small training task of gloo with one fault in it: FAULT names it, GUILTY is the rank that has it.

It never imports fanout. Faults that come before torch is needed happen before it is imported, which costs seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

FAULT = os.environ.get("FAULT", "")
RANK = int(os.environ["RANK"])
GUILTY = int(os.environ.get("GUILTY", "-1")) == RANK
MINE = GUILTY or os.environ.get("GUILTY_NODE") == os.environ.get("GROUP_RANK")  # what goes for a whole host
STEPS = int(os.environ.get("STEPS", "40"))
AT = 4
PATIENCE = timedelta(seconds=float(os.environ.get("PATIENCE", "60")))

if MINE and FAULT == "no-module":
    import flash_attention_of_another_host  # type: ignore[import-not-found]  # noqa: F401
if MINE and FAULT == "no-file":
    with open("/data/tokenizer.json") as tokenizer:
        tokenizer.read()
if GUILTY and FAULT == "early-exit":
    sys.exit(3)
if GUILTY and FAULT == "hang-early":
    time.sleep(1000)

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402


def raise_exception(step: int) -> None:
    raise ValueError(f"sample {step} is broken")


def key_error(step: int) -> None:
    {"inputs": 1}["input_ids"]


def in_thread(step: int) -> None:
    """Raise an exception in a loader's thread, which the program notices."""
    thread = threading.Thread(target=raise_exception, args=(step,))
    thread.start()
    thread.join()
    os._exit(9)


def raise_bus_error(step: int) -> None:
    """Raise SIGBUS, as a data loader does when /dev/shm is too small for its batches."""
    path = "/dev/shm/batch"
    with open(path, "wb+") as file:
        file.truncate(1 << 30)
        with mmap.mmap(file.fileno(), 1 << 30) as memory:
            for offset in range(0, 1 << 30, 1 << 20):
                memory[offset : offset + (1 << 20)] = b"x" * (1 << 20)


def memory_error(step: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
    bytearray(1 << 33)


def open_files(step: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    with contextlib.ExitStack() as held:
        for _ in range(100):
            held.enter_context(open(os.devnull))


def disk_full(step: int) -> None:
    with open("/dev/full", "wb") as file:
        torch.save({"weights": torch.zeros(1 << 16)}, file)


class _Dies(torch.utils.data.Dataset[int]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        if index > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


def loader_killed(step: int) -> None:
    for _ in torch.utils.data.DataLoader(_Dies(), num_workers=1):
        pass


def reduce_other_shape(step: int) -> None:
    dist.all_reduce(torch.ones(3000))


def call_other_collective(step: int) -> None:
    dist.broadcast(torch.ones(4), 0)


def exit_early(step: int) -> None:
    """Take another branch and exit with 0, as after fewer batches than the others have."""
    os._exit(0)


def fill_memory(step: int) -> None:
    """Allocate memory until the kernel kills this process; the test has set a limit to it."""
    while not os.path.exists("/tmp/limited"):
        time.sleep(0.05)
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20)) * 16)


FAULTS: dict[str, Callable[[int], Any]] = {
    "exception": raise_exception,
    "key-error": key_error,
    "thread": in_thread,
    "sys-exit": lambda step: sys.exit(3),
    "os-exit": lambda step: os._exit(7),
    "sigkill": lambda step: os.kill(os.getpid(), signal.SIGKILL),
    "sigterm": lambda step: os.kill(os.getpid(), signal.SIGTERM),
    "segv": lambda step: ctypes.string_at(0),
    "bus": raise_bus_error,
    "abort": lambda step: os.abort(),
    "memory-error": memory_error,
    "memory": fill_memory,
    "open-files": open_files,
    "disk-full": disk_full,
    "loader-killed": loader_killed,
    "hang": lambda step: time.sleep(1000),
    "stopped": lambda step: os.kill(os.getpid(), signal.SIGSTOP),
    "shape": reduce_other_shape,
    "order": call_other_collective,
    "skips": exit_early,
}


def spend_step_time() -> None:
    """Spend the time of a step: mostly none; for the slow kinds some CPU time, and more on the guilty rank."""
    if not FAULT.startswith("slow"):
        time.sleep(0.05)
        return
    until = time.process_time() + (0.15 if GUILTY and FAULT == "slow-rank" else 0.03)
    while time.process_time() < until:
        pass
    time.sleep(0.03)


def main() -> None:
    """Steps of an all-reduce, each with a line."""
    dist.init_process_group("gloo", timeout=PATIENCE)
    for step in range(1, STEPS + 1):
        began = time.perf_counter()
        spend_step_time()
        if GUILTY and step == AT:
            FAULTS.get(FAULT, bool)(step)
        took = time.perf_counter() - began  # without the time for which it waits for the others
        loss = torch.ones(4)
        dist.all_reduce(loss)
        print(f"step {step}/{STEPS} loss {float(loss[0]):.3f} step_time {took:.3f}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
