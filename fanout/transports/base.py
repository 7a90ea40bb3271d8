"""The whole interface to a host: ``Transport.open`` gives a ``Channel`` of bytes, or says in one error why not.

Nothing above this room knows a library's name. An attempt has one deadline over everything it does; because some
libraries wait without one, whoever opens registers with ``Deadline.guard`` what must be closed to free it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from fanout.hosts import Host


class Channel(Protocol):
    """A command's stdin and stdout (stderr mixed in) on a host.

    ``peer`` is the numeric address at which the host was reached; "" where that is not a plain TCP connection.
    """

    peer: str

    def read(self, timeout: float) -> bytes | None:
        """Some bytes; b"" at the end; None if nothing came for ``timeout`` seconds. Raises OSError when it broke."""

    def write(self, data: bytes) -> None:
        """Send all of ``data``. Raises OSError when it broke."""

    def close(self) -> None:
        """End it, from any thread; a ``read`` or ``write`` that waits comes back."""

    def status(self) -> int | None:
        """The command's exit status once ``read`` gave b""; None if the transport cannot tell."""


class Transport(Protocol):
    """A way to run one command on a host."""

    name: str

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        """Start ``command`` (for the login shell) there. Raises a TransportError."""


class Deadline:
    """A moment in monotonic time by which an attempt must be over; closing what it waits for is how it ends."""

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds
        self.seconds = seconds
        self._lock = threading.Lock()
        self._closers: list[Callable[[], None]] = []
        self._expired = False
        self._done = False

    @property
    def left(self) -> float:
        """Seconds that are left, at least a tenth, so that it can be given to a library as a time-out."""
        return max(0.1, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        return self._expired

    def guard(self, close: Callable[[], None]) -> None:
        """Call ``close`` when the deadline passes (at once, if it has)."""
        with self._lock:
            if not self._expired:
                self._closers.append(close)
                return
        close()

    def done(self) -> None:
        """The attempt is over: nothing is to be closed any more."""
        with self._lock:
            self._done = True
            self._closers.clear()

    def check(self) -> None:
        """Close everything if the moment has passed; called by the one clock thread."""
        with self._lock:
            if self._done or self._expired or time.monotonic() < self.at:
                return
            self._expired = True
            closers, self._closers = self._closers, []
        for close in closers:
            close()
