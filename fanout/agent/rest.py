"""Why a keeper stays when its run has ended: processes that nobody can end, and bytes that nothing but its memory has."""

from __future__ import annotations

from . import procs

TYPE_CHECKING = False  # what typing says, without the price of importing it on a host
if TYPE_CHECKING:
    from typing import Callable

    from .spool import Spool


class Rest:
    """What is left to wait for after the end."""

    def __init__(self, left: list, spool: Spool, release: Callable[[], None]) -> None:
        """``left``: pids. The claims are let go of with the last of them: no other run may have its port and GPUs."""
        self._spool = spool
        self._release = release
        self._unkillable = [(pid, seen[3]) for pid, seen in ((pid, procs.stat_of(pid)) for pid in left) if seen]
        self.stuck = bool(self._unkillable)
        if not self.stuck:
            release()

    def over(self, unwanted: bool) -> bool:
        """May the keeper go? ``unwanted``: nobody comes for its memory any more."""
        if self._unkillable:
            self._unkillable = [(pid, start) for pid, start in self._unkillable if procs.is_running(pid, start)]
            if not self._unkillable:
                self._release()
        self._spool.settle()
        return not self._unkillable and (unwanted or not self._spool.only_here)
