"""A run of 64 hosts with 8 ranks each, as its record has it: one rank runs out of memory, and fanout stops the others."""

from __future__ import annotations

import math

from fanout.model.events import Heartbeat, StreamOpened
from tests.histories import History

HOSTS = 64
RANKS = 8
FIRST_RANK = 330
OOM = b"""Traceback (most recent call last):
  File "tasks/train.py", line 98, in step
    loss.backward()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 2 has a total capacity of 79.11 GiB
"""


def build_large_run(*, steps: int = 6) -> History:
    """Return a run in which all ranks train for some steps. Then rank 330 runs out of memory."""
    run = History(*(f"gpu{number:02}" for number in range(HOSTS))).connect_hosts().pass_time(20).start_hosts()
    for node, host in enumerate(run.hosts):
        for local in range(RANKS):
            run.add_events(StreamOpened(at=run.at, host=host, stream=local + 1, name=f"rank {node * RANKS + local}"))
    for step in range(1, steps + 1):
        add_step(run, step)
        run.pass_time(30)
    node, local = divmod(FIRST_RANK, RANKS)
    first, others = run.hosts[node], [host for number, host in enumerate(run.hosts) if number != node]
    run.add_output(first, OOM, stream=local + 1).pass_time(3)
    run.end_hosts(first, code=1).stop_hosts(f"{first}: exit 1", *others).release_hosts(first).pass_time(8)
    return run.end_hosts(*others, code=None, signal=15).pass_time(2).release_hosts(*others).pass_time(1)


def add_step(run: History, step: int) -> None:
    """Add the line of one step of every rank, and the load of every host."""
    for node, host in enumerate(run.hosts):
        for local in range(RANKS):
            rank = node * RANKS + local
            loss = 2 + 9 * math.exp(-step / 9) + 0.4 * math.sin(rank + step) / (1 + step / 8)
            speed = 38000 - 40 * (rank % 7) - (9000 if rank == 77 else 0)
            line = f"step {step * 50}/2000 loss {loss:.4f} lr {3e-4 * min(1, step / 6):.2e} tok/s {speed}\n"
            run.add_output(host, line.encode(), stream=local + 1)
        card = {"util": 96 - (node == 21) * 40 - step % 3, "used": 60_000 + 300 * step, "total": 81_000}
        gpus = [card | {"temp": 60 + node % 9, "watts": 640 - node}] * RANKS
        load = {"cpu": 20.0 + node % 5 + step % 4, "memory": [300 + step, 1000], "gpus": gpus}
        run.add_events(Heartbeat(at=run.at, host=host, load=load))
