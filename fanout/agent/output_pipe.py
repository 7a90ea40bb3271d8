"""Output pipe: moves what train.sh and its processes print into the log."""

from __future__ import annotations

import os
import select

from . import spawn

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from .lease import Lease
    from .log_spool import LogSpool

MAX_DRAIN_BYTES = 1 << 20  # the most bytes read from the pipe before other descriptors are served


class OutputPipe:
    """The keeper's end of the pipe that is stdout and stderr of the run."""

    def __init__(self, poll: select.poll, spool: LogSpool, lease: Lease) -> None:
        self._poll = poll
        self._spool = spool
        self._lease = lease
        self.descriptor = -1

    def open(self) -> int:
        """Open the pipe; return the end for train.sh."""
        self.descriptor, write = spawn.make_pipe()
        self._poll.register(self.descriptor, select.POLLIN)
        return int(write)

    def drain(self) -> None:
        """Move the run's output into the log. A limit ensures that a flood cannot delay a stop."""
        taken = 0
        while self.descriptor >= 0 and taken < MAX_DRAIN_BYTES:
            try:
                data = os.read(self.descriptor, 262144)
            except BlockingIOError:
                return
            if not data:
                self._poll.unregister(self.descriptor)
                os.close(self.descriptor)
                self.descriptor = -1
                return
            taken += len(data)
            self._spool.store(data, self._lease.is_launcher_active)
            if self._spool.has_pending:
                self._poll.unregister(self.descriptor)  # until there is room: the run blocks in its write
                return

    def store_pending(self) -> None:
        """Store the bytes that had no room, and read on if there is room now."""
        self._spool.store_pending(self._lease.is_launcher_active)
        if not self._spool.has_pending and self.descriptor >= 0:
            self._poll.register(self.descriptor, select.POLLIN)

    def finish(self, *, is_open: bool) -> None:
        """Store the last bytes. ``is_open``: processes that stay may write without end, so read only once."""
        self._spool.finish()
        while self.descriptor >= 0 and select.select([self.descriptor], [], [], 0)[0]:
            self.drain()
            self._spool.finish()
            if is_open:
                return
