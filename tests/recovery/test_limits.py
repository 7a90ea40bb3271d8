"""Limits of restarts: the budget, the restart rate, and the wait before a restart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fanout.model.errors import UsageError
from fanout.model.restart_rate import RestartRate, parse_restart_rate
from fanout.recovery.attempt import RecoveryOptions
from fanout.recovery.decision import EndRun
from tests.recovery.attempts import OPTIONS, build_attempt, decide_for, expect_end, expect_restart


def test_exceptions_at_new_steps_restart_while_the_first_step_grows() -> None:
    history = [build_attempt(number, (1 + 20 * number, 30 + 20 * number), place="ValueError") for number in range(12)]
    for count in range(1, 12):
        assert expect_restart(decide_for(*history[:count])).used == 1


def test_failure_before_each_checkpoint_ends_after_the_budget_and_two_weak_restarts() -> None:
    history = [build_attempt(number, (1, 10 + number), signature="nccl-system-error") for number in range(12)]
    ends = [decide_for(*history[:count], options=replace(OPTIONS, allow_from_scratch=True)) for count in range(1, 12)]
    first_end = next(index for index, each in enumerate(ends) if isinstance(each, EndRun))
    assert first_end == OPTIONS.max_restarts + 2
    expect_end(ends[first_end], "budget")


def test_network_fault_waits_longer_each_time() -> None:
    options = replace(OPTIONS, max_restarts=6, allow_from_scratch=True)
    history = [build_attempt(number, None, signature="network", host=None) for number in range(6)]
    waits = [expect_restart(decide_for(*history[:count], options=options)).wait_seconds for count in range(1, 7)]
    assert waits == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0]


def test_killed_rank_restarts_at_once_and_waits_from_the_second_time_on() -> None:
    for signature, limit in (("signal", 2), ("vanished", 4), ("", 4)):
        history = [build_attempt(number, None, signature=signature, host=None, code=-9) for number in range(4)]
        options = replace(OPTIONS, max_restarts=4)
        waits = [
            expect_restart(decide_for(*history[:count], options=options)).wait_seconds for count in range(1, limit + 1)
        ]
        assert waits == [0.0, 10.0, 20.0, 40.0][:limit]


def test_restart_code_is_not_counted_but_the_rate_limit_holds() -> None:
    history = [build_attempt(number, (1 + number, 2 + number), code=75, signature="exit") for number in range(9)]
    assert expect_restart(decide_for(*history)).used == 0
    quick = [replace(each, started_at=10.0 * each.number, ended_at=10.0 * each.number + 9) for each in history]
    expect_restart(decide_for(*quick[:4]))
    assert expect_end(decide_for(*quick[:5]), "rate-limit").why == "5 starts are too many (--restart-rate: 5 in 30m)"
    seldom = replace(OPTIONS, rate=RestartRate(starts=7, seconds=75.0))
    expect_restart(decide_for(*quick[:6], options=seldom))
    expect_end(decide_for(*quick[:7], options=seldom), "rate-limit")
    expect_restart(decide_for(*quick[:9], options=replace(OPTIONS, rate=None)))


def test_restart_rate_is_a_number_of_starts_and_a_time() -> None:
    assert parse_restart_rate("5/30m") == RestartRate(starts=5, seconds=1800.0) == RecoveryOptions().rate
    assert parse_restart_rate("off") is None
    for wrong in ("", "5", "5/", "/30m", "1/30m", "5/0", "5/x", "-5/30m", "5/30m/2", "\u0665/30m"):
        with pytest.raises(UsageError, match="--restart-rate"):
            parse_restart_rate(wrong)
