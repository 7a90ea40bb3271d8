"""The launcher's clock goes on while its machine sleeps, and does not follow the wall clock when that is set."""

from __future__ import annotations

import time

import pytest

from fanout.remote.pool import Clock
from tests.skips import needs


@needs("linux")
def test_clock_counts_time_in_suspend(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Linux counts: CLOCK_MONOTONIC stands still meanwhile, CLOCK_BOOTTIME does not (clock_gettime(2))."""
    now = {time.CLOCK_BOOTTIME: 5000.0, time.CLOCK_MONOTONIC: 5000.0}
    monkeypatch.setattr(time, "clock_gettime", lambda kind: now[kind])
    clock = Clock()
    began = clock()
    now[time.CLOCK_BOOTTIME] += 1860.0  # closed for half an hour
    assert clock() - began == 1860.0


def test_clock_starts_at_wall_time_and_is_independent_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    assert abs(clock() - time.time()) < 5.0
    monkeypatch.setattr(time, "time", lambda: 0.0)
    before = clock()
    assert 0.0 <= clock() - before < 60.0
