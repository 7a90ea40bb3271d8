"""The transports under one contract, each with the hosts that it needs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fanout.model.hosts import Host, Origin
from fanout.remote.transports.base import Channel, Deadline, Transport
from tests.processes import join_threads
from tests.remote.scripted import Far, Script

PATIENCE = 30.0


def build_host(name: str, **facts: object) -> Host:
    return Host(name=name, origin=Origin(file="hosts.txt", line=1), **facts)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A transport, and a host that it reaches."""

    transport: Transport
    host: Host

    @contextmanager
    def open_channel(self, command: str) -> Iterator[Channel]:
        with start_clock(Deadline(PATIENCE)) as deadline:
            channel = self.transport.open(self.host, command, deadline)
            deadline.mark_done()
        try:
            yield channel
        finally:
            channel.close()


@contextmanager
def start_clock(deadline: Deadline) -> Iterator[Deadline]:
    """Start the clock thread of a connection pool."""
    over = threading.Event()

    def close_overdue() -> None:
        while not over.wait(0.05):
            deadline.close_if_overdue()

    thread = threading.Thread(target=close_overdue, daemon=True)
    thread.start()
    try:
        yield deadline
    finally:
        over.set()
        join_threads(thread)


def read_all(channel: Channel) -> bytes:
    """Read everything up to the end."""
    data = b""
    while True:
        some = channel.read(PATIENCE)
        assert some is not None, f"nothing more after {data[-200:]!r}"
        if not some:
            return data
        data += some


# The commands of the contract; a shell runs them everywhere but in memory, where these functions play them.
EXACT = "printf 'a\\000b\\377\\n'; exit 3"
ECHO = "head -c 200000"
MIXED = "echo out; echo err >&2"
SILENT = "echo ready; exec sleep 60"
FINAL = "exit 255"
LATE = "echo ready; read word; echo err >&2; echo out"
BIG = "head -c 10000000 /dev/zero"


def _write_exact(far: Far) -> int:
    far.write_bytes(b"a\0b\xff\n")
    return 3


def _echo_bytes(far: Far) -> int:
    left = 200_000
    while left:
        data = far.read_bytes()[:left]
        far.write_bytes(data)
        left -= len(data)
    return 0


def _write_mixed(far: Far) -> int:
    far.write_bytes(b"out\nerr\n")
    return 0


def _stay_silent(far: Far) -> int:
    far.write_bytes(b"ready\n")
    far.read_bytes()
    return 0


def _write_at_end(far: Far) -> int:
    return 255


def _write_late(far: Far) -> int:
    far.write_bytes(b"ready\n")
    far.read_bytes()
    far.says_aside("err")
    far.write_bytes(b"out\n")
    return 0


def _write_much(far: Far) -> int:
    for _ in range(100):
        far.write_bytes(bytes(100_000))
    return 0


PLAYED: dict[str, Script] = {
    EXACT: _write_exact,
    ECHO: _echo_bytes,
    MIXED: _write_mixed,
    SILENT: _stay_silent,
    FINAL: _write_at_end,
    LATE: _write_late,
    BIG: _write_much,
}


def play_script(far: Far) -> int | None:
    return PLAYED[far.command](far)
