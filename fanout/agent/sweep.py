"""Kill a set of processes in short steps, so that the caller can send heartbeats and serve relays between them."""

from __future__ import annotations

import signal
import time

from . import procs

TYPE_CHECKING = False  # what typing says, without the price of importing it on a host
if TYPE_CHECKING:
    from typing import Callable

STEP_SECONDS = 1.0  # the longest that one step goes on stopping processes that fork
PAUSE_SECONDS = (0.002, 0.2)  # between two steps of ``kill_all``: the first pause, and the longest


class Sweep:
    """Processes that are being killed: how many were, and which of them do not die."""

    def __init__(self, find: Callable[[], list], seconds: float, proof: Callable[[], bool] | None = None) -> None:
        """``find`` returns the pids that must go; after ``seconds`` those that remain count as unkillable.

        ``proof`` tells that nothing can be left. Without one, nothing must be found twice: a look at /proc takes a while,
        and what forks meanwhile can hide from it.
        """
        self._find = find
        self._proof = proof
        self._found_nothing = False
        self._until = time.monotonic() + seconds
        self._killed: set = set()
        self.left: list = []

    @property
    def killed(self) -> int:
        return len(self._killed)

    def step(self) -> bool:
        """Stop all, kill all; return whether the sweep is over.

        All are stopped before any is killed, so that a process that forks in a loop cannot outrun the sweep.
        """
        stopped = self._stop_all()
        for pid in stopped:
            procs.send(pid, signal.SIGKILL)
        self._killed |= stopped
        sure = not stopped and (self._proof() if self._proof is not None else self._found_nothing)
        self._found_nothing = not stopped
        if not sure and time.monotonic() < self._until:
            return False
        self.left = [pid for pid in self._find() if procs.stat_of(pid)] if stopped else []
        return True

    def _stop_all(self) -> set:
        stopped: set = set()
        until = time.monotonic() + STEP_SECONDS
        while True:
            fresh = [pid for pid in self._find() if pid not in stopped]
            for pid in fresh:
                procs.send(pid, signal.SIGSTOP)
            stopped.update(fresh)
            if not fresh or time.monotonic() > until:
                return stopped


def kill_all(find: Callable[[], list], seconds: float) -> tuple:
    """Sweep without a break; return how many processes were killed, and those that do not die."""
    sweep = Sweep(find, seconds)
    pause, longest = PAUSE_SECONDS
    while not sweep.step():
        time.sleep(pause)  # the end of a process that is no child of ours sends no event
        pause = min(pause * 2, longest)
    return sweep.killed, sweep.left
