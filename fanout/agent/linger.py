"""Reasons for a keeper to stay after its run: processes that cannot be killed, log bytes that exist only in its memory, and
claims that it holds for the next attempt."""

from __future__ import annotations

from . import processes

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Callable

    from .log_spool import LogSpool


class LingerState:
    """What the keeper waits for after the end."""

    def __init__(self, left: list, spool: LogSpool, release: Callable[[], None], *, holds: bool) -> None:
        """Release the claims with the last pid of ``left``: until then no other run may have the port and the GPUs.

        If the keeper ``holds`` them for the next attempt, it releases them when the launcher releases the attempt, or when
        no launcher is left.
        """
        self._spool = spool
        self._holds = holds
        self._release = release
        self._unkillable = [(pid, seen[3]) for pid, seen in ((pid, processes.read_stat(pid)) for pid in left) if seen]
        self.stuck = bool(self._unkillable)
        if not self.stuck and not holds:
            release()

    def is_over(self, unwanted: bool) -> bool:
        """Return whether the keeper may exit. ``unwanted``: no launcher will fetch its memory any more."""
        if self._unkillable:
            self._unkillable = [(pid, start) for pid, start in self._unkillable if processes.is_running(pid, start)]
            if not self._unkillable and not self._holds:
                self._release()
        if self._holds and unwanted and not self._unkillable:
            self._holds = False
            self._release()
        self._spool.move_to_disk()
        return not self._unkillable and not self._holds and (unwanted or not self._spool.only_here)
