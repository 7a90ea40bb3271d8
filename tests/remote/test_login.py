"""Logins that hang: their time is over when it is over, whatever they wait for."""

from __future__ import annotations

import threading

import pytest

from fanout.model.events import ConnectFailed, Event
from fanout.model.hosts import Host
from fanout.remote import login
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.remote.transports.base import Channel, Deadline
from tests.remote.nodes import TEXT, choose_scripts, cut_after, resume_run, run_over, run_well
from tests.remote.scripted import ScriptedTransport
from tests.remote.ways import build_host


class Hanging:
    """A transport whose first ``open``, or its second, waits for what nothing can close, as a name server is."""

    name = "hanging"
    open_files = 3

    def __init__(self, inner: ScriptedTransport, *, on: int) -> None:
        self._inner = inner
        self._on = on
        self.calls = 0
        self.let_go = threading.Event()

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        self.calls += 1
        if self.calls == self._on:
            deadline.doing = "the name server"
            self.let_go.wait(60)
        return self._inner.open(host, command, deadline)


def test_unkillable_login_is_abandoned_after_its_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "HUNG_SECONDS", 0.2)
    hanging = Hanging(ScriptedTransport(lambda one, attempt: run_well()), on=1)
    pool = ConnectionPool(
        [build_host("a")], lambda one: hanging, ConnectionOptions(connect_timeout=0.3, dials=1), Clock()
    )
    pool.start()
    try:
        events: list[Event] = [pool.next_event(5.0)]
        while not isinstance(events[-1], ConnectFailed):
            events.append(pool.next_event(5.0))
        assert events[-1].message == "the login did not finish within 0.3 s: it still waits for the name server"
    finally:
        hanging.let_go.set()
        pool.close()


def test_hanging_reconnect_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The place that it holds is given back: there is one here, and the next login needs it."""
    monkeypatch.setattr(login, "HUNG_SECONDS", 0.2)
    hanging = Hanging(ScriptedTransport(choose_scripts(cut_after(5, breaks=True), resume_run(5))), on=2)
    known = [build_host("a", slots=1)]
    pool = ConnectionPool(known, lambda one: hanging, ConnectionOptions(connect_timeout=0.3, dials=1), Clock())
    outcome, seen = run_over(pool, known)
    assert (outcome.exit_code, seen.join_output("a"), hanging.calls) == (0, TEXT, 3)
    hanging.let_go.set()
