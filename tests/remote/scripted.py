"""A transport in memory: what the host does is a function of the test's, run in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fanout.model.hosts import Host
from fanout.remote.transports.base import Channel, Deadline


class Cut(Exception):
    """The launcher hung up; ends a script that waits."""


class Wire:
    """Bytes in one direction, with an end."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ended = False
        self._news = threading.Condition()

    def put_bytes(self, data: bytes) -> None:
        with self._news:
            if self._ended:
                raise BrokenPipeError("closed")
            self._bytes += data
            self._news.notify_all()

    def end_stream(self) -> None:
        with self._news:
            self._ended = True
            self._news.notify_all()

    def get_bytes(self, timeout: float | None = None) -> bytes | None:
        """Return all there is, b"" at the end, None if nothing came in time."""
        with self._news:
            if not self._news.wait_for(lambda: self._bytes or self._ended, timeout):
                return None
            data = bytes(self._bytes)
            self._bytes.clear()
            return data


class Far:
    """The host's end, for scripts."""

    def __init__(self, host: Host, command: str) -> None:
        self.host = host
        self.command = command
        self.inward, self.outward = Wire(), Wire()
        self.status: int | None = None
        self.broken: OSError | None = None
        self.aside = ""

    def read_bytes(self) -> bytes:
        data = self.inward.get_bytes()
        if not data:
            raise Cut
        return data

    def write_bytes(self, data: bytes) -> None:
        try:
            self.outward.put_bytes(data)
        except BrokenPipeError:
            raise Cut from None

    def says_aside(self, text: str) -> None:
        """Write to stderr, which the launcher keeps apart."""
        self.aside = text

    def break_connection(self, error: OSError) -> None:
        """Break the connection: the launcher's next read raises ``error``."""
        self.broken = error
        self.outward.end_stream()


Script = Callable[[Far], int | None]


class ScriptedChannel:
    """The launcher's end."""

    peer, by_hand = "", "ssh -F cfg h"

    def __init__(self, far: Far) -> None:
        self._far = far

    @property
    def last_stderr(self) -> str:
        return self._far.aside

    def separate_stderr(self) -> None: ...

    def read(self, timeout: float) -> bytes | None:
        data = self._far.outward.get_bytes(timeout)
        if data == b"" and self._far.broken is not None:
            raise self._far.broken
        return data

    def write(self, data: bytes) -> None:
        self._far.inward.put_bytes(data)

    def end_command(self) -> None:
        self._far.inward.end_stream()

    def close_input(self) -> None:
        self._far.inward.end_stream()

    def close(self) -> None:
        self._far.inward.end_stream()
        self._far.outward.end_stream()

    def exit_status(self) -> int | None:
        return self._far.status

    def has_reported_end(self) -> bool:
        return False


class ScriptedTransport:
    """``choose(host, attempt)`` gives the script of each connection, or raises a TransportError."""

    name = "scripted"
    open_files = 3

    def __init__(self, choose: Callable[[Host, int], Script]) -> None:
        self._choose = choose
        self._lock = threading.Lock()
        self.attempts: dict[str, list[float]] = {}
        self.threads: list[threading.Thread] = []

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        with self._lock:
            moments = self.attempts.setdefault(host.name, [])
            moments.append(time.monotonic())
        script = self._choose(host, len(moments))
        far = Far(host, command)
        thread = threading.Thread(target=_act_script, args=(script, far), daemon=True)
        self.threads.append(thread)
        thread.start()
        channel = ScriptedChannel(far)
        deadline.close_on_expiry(channel.close)
        return channel


def _act_script(script: Script, far: Far) -> None:
    try:
        far.status = script(far)
    except Cut:
        far.status = None
    far.outward.end_stream()
