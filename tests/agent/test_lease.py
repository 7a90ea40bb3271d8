"""The keeper's lease with a fake clock: it runs in suspend, and old heartbeats renew nothing."""

from __future__ import annotations

import time

import pytest

from fanout.agent import lease


class Clock:
    """A fake clock_gettime; in suspend only CLOCK_BOOTTIME advances."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = {time.CLOCK_BOOTTIME: 1000.0, time.CLOCK_MONOTONIC: 1000.0}
        monkeypatch.setattr(time, "clock_gettime", lambda kind: self.now[kind])

    def run_for(self, seconds: float) -> None:
        self.now = {kind: at + seconds for kind, at in self.now.items()}

    def suspend_for(self, seconds: float) -> None:
        self.now[time.CLOCK_BOOTTIME] += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_the_lease_runs_in_suspend(clock: Clock) -> None:
    held = lease.Lease(300.0)
    held.renew(lease.read_boottime())
    clock.suspend_for(299.0)
    assert held.left == 1.0
    clock.suspend_for(2.0)
    assert held.left < 0
    assert held.silence == 301.0


def test_a_heartbeat_counts_from_when_it_reached_the_host(clock: Clock) -> None:
    held = lease.Lease(300.0)
    queued = lease.read_boottime() + 10.0
    clock.run_for(10.0)
    clock.suspend_for(3600.0)
    held.renew(queued)
    assert held.left < 0
    held.renew(lease.read_boottime() - 4.0)  # only the keeper was stopped: the relay received this frame a moment ago
    assert held.left == 296.0


def test_an_older_heartbeat_changes_nothing(clock: Clock) -> None:
    held = lease.Lease(300.0)
    clock.run_for(100.0)
    held.renew(lease.read_boottime())
    held.renew(lease.read_boottime() - 90.0)
    assert held.left == 300.0


def test_a_prepared_run_has_a_minute_at_most(clock: Clock) -> None:
    held = lease.Lease(300.0)
    clock.suspend_for(61.0)
    assert held.left < 0
