"""The whole interface to a host: ``Transport.open`` gives a ``Channel`` of bytes, or says in one error why not.

Nothing above this room knows a library's name. An attempt has one deadline over everything it does; because some
libraries wait without one, whoever opens registers with ``Deadline.guard`` what must be closed to free it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from fanout.errors import Unreachable
from fanout.hosts import Host

LOGINS_PER_HOP = 8  # sshd's MaxStartups (10:30:100) drops some of more than 10 logins at a time


class Channel(Protocol):
    """A command's stdin and stdout (stderr mixed in, until it is kept apart) on a host.

    ``peer`` is the numeric address at which the host was reached; "" where that is not a plain TCP connection.
    ``said`` is what the transport or the command last wrote on stderr: why a connection ended; "" where nothing did.
    """

    @property
    def peer(self) -> str: ...

    @property
    def said(self) -> str: ...

    def read(self, timeout: float) -> bytes | None:
        """Some bytes; b"" at the end; None if nothing came for ``timeout`` seconds. Raises OSError when it broke."""

    def keep_apart(self) -> None:
        """From here on stderr is no part of what ``read`` gives: frames follow, and a login's children may still print."""

    def write(self, data: bytes) -> None:
        """Send all of ``data``. Raises OSError when it broke."""

    def end_command(self) -> None:
        """Ask the host to end the command: its stdin ends, and where the transport can, its processes get SIGTERM.

        ``read`` goes on to the command's end, which is the only proof that it came. Raises OSError.
        """

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
        self.doing = ""  # what the attempt waits for, for the error if it hangs there
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

    @property
    def overdue(self) -> bool:
        """Has the moment passed, with the attempt still under way and nothing closed yet?"""
        return not self._done and not self._expired and time.monotonic() >= self.at

    def check(self) -> None:
        """Close everything if the moment has passed. A closer may wait for a process: for a thread that may wait."""
        with self._lock:
            if not self.overdue:
                return
            self._expired = True
            closers, self._closers = self._closers, []
        for close in closers:
            close()


class Place:
    """One of a semaphore's places, given back once: by its holder, or by the clock where the holder hangs."""

    def __init__(self, places: threading.Semaphore) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._held = True

    def give_back(self) -> None:
        with self._lock:
            held, self._held = self._held, False
        if held:
            self._places.release()


class Hops:
    """How many logins are in flight through each first machine: sshd drops some of more than 10 (MaxStartups)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[tuple[str, int], threading.Semaphore] = {}

    @contextlib.contextmanager
    def place(self, address: str, port: int, deadline: Deadline) -> Iterator[None]:
        """Hold a place while a login is under way. Raises Unreachable where none gets free in time."""
        with self._lock:
            places = self._places.setdefault((address, port), threading.Semaphore(LOGINS_PER_HOP))
        if not places.acquire(timeout=deadline.left):
            raise Unreachable(f"could not start to log in within {deadline.seconds:g} s: too many hosts behind one address",
                              hint="raise --connect-timeout")  # fmt: skip
        place = Place(places)
        deadline.guard(place.give_back)
        try:
            yield
        finally:
            place.give_back()
