"""Signals of a launcher: none is lost between the connections of two attempts."""

from __future__ import annotations

import signal
from typing import Any

from fanout.model.events import Interrupted
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.run.connections import SignalRouter


def open_pool() -> ConnectionPool:
    def refuse_transport(host: Any) -> Any:
        raise AssertionError(host)

    return ConnectionPool([], refuse_transport, ConnectionOptions(by="ann@vm"), Clock())


def read_signals(pool: ConnectionPool) -> list[int]:
    events = iter(lambda: pool.next_event(0.0), None)
    signals: list[int] = []
    for event in events:
        if not isinstance(event, Interrupted):
            break
        signals.append(event.signal)
    return signals


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


def test_signal_is_delivered_once_to_the_next_attempt() -> None:
    router, old, new = SignalRouter(), open_pool(), open_pool()
    router.set_target(old)
    router.keep_signals()
    router.set_target(new)
    router.handle_signal(signal.SIGINT, None)
    assert read_signals(new) == [signal.SIGINT]
    assert read_signals(old) == []
