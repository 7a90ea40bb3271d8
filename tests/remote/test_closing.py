"""Links are closed together: children that do not go by themselves cost the time of one, not of all."""

from __future__ import annotations

import os
import resource
import threading
import time

import pytest

from fanout.model.events import Connected
from fanout.model.hosts import Host, Origin
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.remote.transports.base import Channel, Deadline
from fanout.remote.transports.subprocess_channel import PipeChannel
from tests.processes import SECONDS

pytestmark = pytest.mark.process
MANY = 8


class _Stuck:
    """A child that takes no notice of the end of its stdin."""

    name = "stuck"
    open_files = 3

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        return PipeChannel(["sleep", "60"])


def test_many_stuck_children_are_ended_at_the_same_time() -> None:
    hosts = [Host(name=f"h{number}", origin=Origin(file="x", line=1)) for number in range(MANY)]
    pool = ConnectionPool(hosts, lambda host: _Stuck(), ConnectionOptions(command="x"), Clock())
    pool.start()
    linked = 0
    while linked < MANY:
        linked += isinstance(pool.next_event(1.0), Connected)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < MANY * 2 / 2  # two seconds each, if it were one after the other


class _Slow:
    """Transport that opens its channel only when it may, as a login that takes long."""

    name = "slow"
    open_files = 3

    def __init__(self) -> None:
        self.has_begun, self.may_end, self.was_closed = threading.Event(), threading.Event(), threading.Event()

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        was_closed = self.was_closed

        class NotedChannel(PipeChannel):
            def close(self) -> None:
                super().close()
                was_closed.set()

        self.has_begun.set()
        assert self.may_end.wait(SECONDS)
        return NotedChannel(["/bin/sh", "-c", command], one_pipe=True)


def test_a_login_that_ends_after_the_close_is_closed_too() -> None:
    slow = _Slow()
    pool = ConnectionPool(
        [Host(name="h", origin=Origin(file="x", line=1))], lambda host: slow, ConnectionOptions(), Clock()
    )
    pool.start()
    assert slow.has_begun.wait(SECONDS)
    pool.close()
    slow.may_end.set()
    assert slow.was_closed.wait(SECONDS)


def test_the_two_thousandth_open_file_is_one_like_any_other() -> None:
    """Hundreds of ssh processes at a time take more than 1023 descriptors, beyond which select knows none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    taken = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while taken[-1] < 1100:
            taken.append(os.dup(taken[0]))
        channel = PipeChannel(["cat"])
        channel.write(b"hello")
        assert channel.read(10.0) == b"hello"
        channel.close()
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
