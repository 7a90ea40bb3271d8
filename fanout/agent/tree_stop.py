"""Ending a run on one host: SIGTERM to train.sh's group, the grace, SIGTERM to the rest, then SIGKILL until nothing is
left."""

from __future__ import annotations

import os
import signal

from . import background, lease, processes
from .kill_sweep import KillSweep

LEFTOVER_SECONDS = 1.0  # grace for the processes that train.sh leaves behind when it exits by itself
UNKILLABLE_SECONDS = 20.0


class StopSequence:
    """Deadlines of the end, and the final sweep. Times use the lease's clock, which also runs in suspend."""

    def __init__(self, mark: list) -> None:
        self.kill_at = 0.0  # when SIGKILL is sent; 0: no end has begun
        self.requested = False  # an end was requested: train.sh did not exit by itself
        self._mark = mark
        self._main = 0
        self._term_at = 0.0  # when descendants outside train.sh's group get their own SIGTERM
        self._end_at = 0.0  # when the processes that train.sh left behind get SIGTERM, with --background end
        self._keeps = False  # the processes that train.sh left behind stay
        self.kept: list = []
        self.leftovers = ""  # the processes that train.sh left behind, when they were ended or kept
        self._sweep: KillSweep | None = None

    @property
    def killed(self) -> int:
        return self._sweep.killed if self._sweep is not None else 0

    @property
    def left(self) -> list:
        return self._sweep.left if self._sweep is not None else self.kept

    def request(self, grace: float) -> bool:
        """Set the deadlines; later calls can only move them earlier. Return whether this was the first call."""
        now = lease.read_boottime()
        first, self.requested = not self.requested, True
        self.kill_at = min(self.kill_at or now + grace, now + grace)
        if first:
            self._term_at = now + grace / 2
        return first

    def allow_leftovers(self, mode: str = "", grace: float = 0.0) -> None:
        """Give the processes that train.sh left behind a short time to end, unless a deadline exists already.

        After it, they are killed. With the mode "end" they get SIGTERM and the grace, and with "keep" they stay.
        """
        if self.kill_at:
            return
        self.kill_at = lease.read_boottime() + LEFTOVER_SECONDS
        self._keeps = mode == "keep"
        if mode == "end":
            self._end_at, self.kill_at = self.kill_at, self.kill_at + grace

    def step(self, main: int, exited: bool) -> bool:
        """Run the next due action; return whether the end is complete. ``exited``: the keeper has reaped train.sh."""
        if not self.kill_at:
            return False
        self._main = 0 if exited else main
        if self._sweep is None:
            pids = processes.watch_descendants(os.getpid())
            if not pids and exited:  # before anything is killed, verify that the watch missed no process
                pids = processes.descendants(os.getpid())
            if lease.read_boottime() >= self.kill_at or (exited and not pids):
                if exited and not self.requested:
                    self.leftovers = self.leftovers or background.describe_processes(pids)
                    if self._keeps and pids:
                        self.kept, self.kill_at = pids, 0.0
                        return True
                self._sweep = KillSweep(self._find_processes, UNKILLABLE_SECONDS, processes.has_no_child)
            elif self._end_at and lease.read_boottime() >= self._end_at:
                self._end_at = 0.0
                self.leftovers = background.describe_processes(pids)
                self.terminate_background()
            elif self._term_at and lease.read_boottime() >= self._term_at:
                self._term_at = 0.0
                self._terminate_others(main, pids)
        return self._sweep is not None and self._sweep.step()

    def step_kept(self) -> None:
        """End the kept processes, after a request."""
        if self.kept:
            self.step(0, True)

    def terminate_background(self) -> None:
        """Send SIGTERM to what outlived train.sh, except workers of torchrun: it forwards the signal, once."""
        self._term_at = 0.0  # a second SIGTERM would interrupt torchrun while it stops its workers
        terminate_processes(background.list_signalled(processes.descendants(os.getpid())))

    def _find_processes(self) -> list:
        """Return the whole tree, other processes with the run's mark, and train.sh until it is reaped."""
        found = {*processes.descendants(os.getpid()), *processes.find_marked(self._mark)}
        return sorted(found | ({self._main} if self._main and processes.read_stat(self._main) else set()))

    @staticmethod
    def _terminate_others(main: int, pids: list) -> None:
        terminate_processes([pid for pid in pids if processes.read_stat(pid)[2:3] not in ((main,), ())])


def terminate_processes(pids: list) -> None:
    """Send SIGTERM and SIGCONT to each process."""
    for pid in pids:
        processes.send_signal(pid, signal.SIGTERM)
        processes.send_signal(pid, signal.SIGCONT)


def terminate_group(main: int, exited: bool) -> None:
    """Send SIGTERM and SIGCONT to train.sh's group. torchrun forwards SIGTERM to its workers, so they get none here.

    If the group's leader was reaped, its number may belong to another group by now. So one of our descendants must be
    in it.
    """
    if exited and not any(processes.read_stat(pid)[2:3] == (main,) for pid in processes.descendants(os.getpid())):
        return
    for number in (signal.SIGTERM, signal.SIGCONT):
        try:
            os.killpg(main, number)
        except (ProcessLookupError, PermissionError):
            return  # the group has already ended
