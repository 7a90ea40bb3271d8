"""Signals of a launcher: none is lost between the connections of two attempts."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from fanout.model.events import Interrupted
from fanout.record.stop_request import write_requester
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.run.connections import SignalRouter


def open_pool() -> ConnectionPool:
    def refuse_transport(host: Any) -> Any:
        raise AssertionError(host)

    return ConnectionPool([], refuse_transport, ConnectionOptions(by="ann@vm"), Clock())


def read_interrupts(pool: ConnectionPool) -> list[Interrupted]:
    found: list[Interrupted] = []
    while isinstance(event := pool.next_event(0.0), Interrupted):
        found.append(event)
    return found


def read_signals(pool: ConnectionPool) -> list[int]:
    return [event.signal for event in read_interrupts(pool)]


def test_signal_before_the_connections_waits_for_them() -> None:
    router, pool = SignalRouter(), open_pool()
    router.handle_signal(signal.SIGTERM, None)
    router.set_target(pool)
    assert read_signals(pool) == [signal.SIGTERM]


def test_signal_between_two_attempts_reaches_the_next_one() -> None:
    """One signal comes after the last look at the old connections, one while there are none."""
    router, old, new = SignalRouter(), open_pool(), open_pool()
    router.set_target(old)
    router.handle_signal(signal.SIGINT, None)
    router.keep_signals()
    router.handle_signal(signal.SIGTERM, None)
    router.set_target(new)
    assert read_signals(new) == [signal.SIGINT, signal.SIGTERM]


def test_stop_of_a_user_has_the_name_from_the_record(tmp_path: Path) -> None:
    """Ctrl-C in the launcher's own terminal has no name."""
    write_requester(str(tmp_path), "ann@pc")
    router, pool = SignalRouter(str(tmp_path)), open_pool()
    router.set_target(pool)
    router.handle_signal(signal.SIGTERM, None)
    router.handle_signal(signal.SIGINT, None)
    assert [(event.signal, event.by) for event in read_interrupts(pool)] == [
        (signal.SIGTERM, "ann@pc"),
        (signal.SIGINT, ""),
    ]


def test_signal_is_delivered_once_to_the_next_attempt() -> None:
    router, old, new = SignalRouter(), open_pool(), open_pool()
    router.set_target(old)
    router.keep_signals()
    router.set_target(new)
    router.handle_signal(signal.SIGINT, None)
    assert read_signals(new) == [signal.SIGINT]
    assert read_signals(old) == []
