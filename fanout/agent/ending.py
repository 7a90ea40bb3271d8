"""How a keeper ends its tree: TERM to the group of train.sh, the grace, TERM to the rest, then KILL until nothing is left."""

from __future__ import annotations

import os
import signal

from . import lease, procs
from .sweep import Sweep

LEFTOVER_SECONDS = 1.0  # what train.sh leaves behind when it ends by itself gets this long to go
UNKILLABLE_SECONDS = 20.0


class Ending:
    """The deadlines of the end, and the sweep that comes last. Times are the lease's: they pass in suspend, too."""

    def __init__(self, mark: list) -> None:
        self.kill_at = 0.0  # when KILL comes; 0: nothing is being ended
        self.asked = False  # the end was asked for: train.sh did not come to it by itself
        self._mark = mark
        self._main = 0
        self._term_at = 0.0  # when descendants outside the group of train.sh get a TERM of their own
        self._sweep: Sweep | None = None

    @property
    def killed(self) -> int:
        return self._sweep.killed if self._sweep is not None else 0

    @property
    def left(self) -> list:
        return self._sweep.left if self._sweep is not None else []

    def ask(self, grace: float) -> bool:
        """Set the deadlines, which later calls can only bring forward; return whether this was the first call."""
        now = lease.now()
        first, self.asked = not self.asked, True
        self.kill_at = min(self.kill_at or now + grace, now + grace)
        if first:
            self._term_at = now + grace / 2
        return first

    def follow(self) -> None:
        """Give what train.sh left behind a moment, unless there is a deadline already."""
        self.kill_at = self.kill_at or lease.now() + LEFTOVER_SECONDS

    def step(self, main: int, exited: bool) -> bool:
        """Do what is due; return whether the end has come. ``exited``: train.sh was collected by the keeper."""
        if not self.kill_at:
            return False
        self._main = 0 if exited else main
        if self._sweep is None:
            alive = procs.descendants(os.getpid())
            if lease.now() >= self.kill_at or (exited and not alive):
                self._sweep = Sweep(self._find, UNKILLABLE_SECONDS, procs.childless)
            elif self._term_at and lease.now() >= self._term_at:
                self._term_at = 0.0
                self._terminate_others(main, alive)
        return self._sweep is not None and self._sweep.step()

    def _find(self) -> list:
        """Return the whole tree, what carries the run's mark elsewhere, and train.sh until it has been collected."""
        found = {*procs.descendants(os.getpid()), *procs.marked(self._mark)}
        return sorted(found | ({self._main} if self._main and procs.stat_of(self._main) else set()))

    @staticmethod
    def _terminate_others(main: int, alive: list) -> None:
        for pid in alive:
            seen = procs.stat_of(pid)
            if seen and seen[2] != main:
                procs.send(pid, signal.SIGTERM)
                procs.send(pid, signal.SIGCONT)


def terminate_group(main: int, exited: bool) -> None:
    """Send TERM and CONT to the group of train.sh; torchrun passes TERM on to its workers, so they get none from us.

    The number of a group whose leader was collected may be another's by now, unless a process of ours is in it.
    """
    if exited and not any(procs.stat_of(pid)[2:3] == (main,) for pid in procs.descendants(os.getpid())):
        return
    for number in (signal.SIGTERM, signal.SIGCONT):
        try:
            os.killpg(main, number)
        except (ProcessLookupError, PermissionError):
            return  # the group has ended already
