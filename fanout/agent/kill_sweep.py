"""Kill a set of processes in short steps, so that the caller can send heartbeats and serve relays between them."""

from __future__ import annotations

import signal
import time

from . import processes

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Callable

STEP_SECONDS = 1.0  # the longest that one step stops processes that keep forking
PAUSE_SECONDS = (0.002, 0.2)  # between two steps of ``kill_all``: the first pause, and the longest


class KillSweep:
    """Processes that are being killed: how many were killed, and which cannot be killed."""

    def __init__(self, find: Callable[[], list], seconds: float, proof: Callable[[], bool] | None = None) -> None:
        """Set up the sweep. ``find`` returns the pids to kill; those left after ``seconds`` count as unkillable.

        ``proof`` returns whether nothing can be left. Without it, ``find`` must return nothing twice: a scan of /proc
        takes a while, and a process that is forked meanwhile can be missed.
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
        """Stop all processes, kill all; return whether the sweep is complete.

        All are stopped before any is killed, so that a process that forks in a loop cannot outrun the sweep.
        """
        stopped = self._stop_processes()
        for pid in stopped:
            processes.send_signal(pid, signal.SIGKILL)
        self._killed |= stopped
        is_complete = not stopped and (self._proof() if self._proof is not None else self._found_nothing)
        self._found_nothing = not stopped
        if not is_complete and time.monotonic() < self._until:
            return False
        self.left = [pid for pid in self._find() if processes.read_stat(pid)] if stopped else []
        return True

    def _stop_processes(self) -> set:
        stopped: set = set()
        until = time.monotonic() + STEP_SECONDS
        while True:
            fresh = [pid for pid in self._find() if pid not in stopped]
            for pid in fresh:
                processes.send_signal(pid, signal.SIGSTOP)
            stopped.update(fresh)
            if not fresh or time.monotonic() > until:
                return stopped


def kill_all(find: Callable[[], list], seconds: float) -> tuple:
    """Sweep without a break; return how many processes were killed, and those that cannot be killed."""
    sweep = KillSweep(find, seconds)
    pause, longest = PAUSE_SECONDS
    while not sweep.step():
        time.sleep(pause)  # the end of a process that is not our child sends no event
        pause = min(pause * 2, longest)
    return sweep.killed, sweep.left
