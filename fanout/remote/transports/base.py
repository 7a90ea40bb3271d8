"""Transport interface: ``Transport.open`` returns a ``Channel`` of bytes, or raises one TransportError.

No module above this package uses an ssh library. One deadline limits a whole login. Some libraries wait without a
time-out, so a transport registers with ``Deadline.close_on_expiry`` what must be closed to end such a wait.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from fanout.model.errors import Unreachable
from fanout.model.hosts import Host

LOGINS_PER_HOP = 8  # sshd's MaxStartups (10:30:100) drops some of more than 10 logins at a time


class Channel(Protocol):
    """The stdin and stdout of a command on a host. stdout includes stderr until ``separate_stderr`` is called.

    ``peer`` is the numeric address of the host, "" if the connection is not plain TCP. ``last_stderr`` is the last message of
    the transport or the command on stderr, "" if there is none; it explains the end of a connection. ``by_hand`` is the
    command that makes the same login in a terminal, "" for this machine.
    """

    by_hand: str

    @property
    def peer(self) -> str: ...

    @property
    def last_stderr(self) -> str: ...

    def read(self, timeout: float) -> bytes | None:
        """Return some bytes, b"" at the end, or None after ``timeout`` seconds. Raises OSError if the channel broke."""

    def separate_stderr(self) -> None:
        """Exclude stderr from ``read`` from here on: frames follow, and children of the login may still print."""

    def write(self, data: bytes) -> None:
        """Send all of ``data``. Raises OSError if the channel broke."""

    def end_command(self) -> None:
        """Ask the host to end the command: close its stdin and, if the transport can, send SIGTERM to its processes.

        Continue to ``read`` until the end of the command: nothing else proves that it ended. Raises OSError.
        """

    def close_input(self) -> None:
        """Close the stdin of the command, and continue to read. Raises OSError if the channel broke."""

    def close(self) -> None:
        """Close the channel, from any thread. A blocked ``read`` or ``write`` returns."""

    def exit_status(self) -> int | None:
        """Return the command's exit status after ``read`` returned b"", None if it is unknown."""

    def has_reported_end(self) -> bool:
        """Return whether the host ended the channel itself: if the exit status is unknown, a signal ended the command."""


class Transport(Protocol):
    """A way to run one command on a host. ``open_files``: how many files of this process a connection keeps open."""

    name: str
    open_files: int

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        """Start ``command``, which the login shell executes, on the host. Raises TransportError."""


class Deadline:
    """The monotonic time at which a login attempt must be over. It ends a wait by closing what that waits for."""

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds
        self.seconds = seconds
        self._lock = threading.Lock()
        self._closers: list[Callable[[], None]] = []
        self.doing = ""  # what the attempt waits for now; part of the error if it hangs
        self._expired = False
        self._done = False

    @property
    def seconds_left(self) -> float:
        """Return the seconds left, at least 0.1, because libraries need a positive time-out."""
        return max(0.1, self.at - time.monotonic())

    @property
    def has_expired(self) -> bool:
        return self._expired

    def close_on_expiry(self, close: Callable[[], None]) -> None:
        """Call ``close`` when the deadline passes (at once, if it has)."""
        with self._lock:
            if not self._expired:
                self._closers.append(close)
                return
        close()

    def mark_done(self) -> None:
        """Mark the attempt as over: nothing is closed any more."""
        with self._lock:
            self._done = True
            self._closers.clear()

    @property
    def is_overdue(self) -> bool:
        """Return whether the time has passed while the attempt goes on and nothing was closed yet."""
        return not self._done and not self._expired and time.monotonic() >= self.at

    def close_if_overdue(self) -> None:
        """Close everything if the time has passed. Call it in a thread that may block: a closer may wait for a process."""
        with self._lock:
            if not self.is_overdue:
                return
            self._expired = True
            closers, self._closers = self._closers, []
        for close in closers:
            close()


class LoginSlot:
    """One slot of a semaphore, released once: by its owner, or by the clock if the owner hangs."""

    def __init__(self, places: threading.Semaphore) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._held = True

    def release(self) -> None:
        with self._lock:
            held, self._held = self._held, False
        if held:
            self._places.release()


class HopLimiter:
    """Limit the parallel logins through each first machine: sshd drops some of more than 10 (MaxStartups)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[tuple[str, int], threading.Semaphore] = {}

    @contextlib.contextmanager
    def hold_slot(self, address: str, port: int, deadline: Deadline) -> Iterator[None]:
        """Hold a slot during a login. Raises Unreachable if none becomes free in time."""
        with self._lock:
            places = self._places.setdefault((address, port), threading.Semaphore(LOGINS_PER_HOP))
        if not places.acquire(timeout=deadline.seconds_left):
            raise Unreachable(
                f"could not start to log in within {deadline.seconds:g} s: too many hosts behind one address",
                hint="raise --connect-timeout",
                timed_out=True,
            )
        place = LoginSlot(places)
        deadline.close_on_expiry(place.release)
        try:
            yield
        finally:
            place.release()
