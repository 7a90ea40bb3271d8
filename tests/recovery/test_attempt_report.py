"""Messages about attempts: before a restart, at the first step, and the table at the end."""

from __future__ import annotations

import json

import pytest

from fanout.model.attempt_record import parse_attempt_record
from fanout.model.schema import InvalidValue
from fanout.recovery import attempt_report
from fanout.recovery.attempt import Fleet, RecoveryOptions
from fanout.recovery.decision import Restart, advise_restarts, decide_next
from tests.recovery.attempts import OPTIONS, build_attempt

LOST = build_attempt(
    steps=(1, 257),
    signature="lost",
    confidence="medium",
    host="gpu02",
    lost=("gpu02",),
    sentence="gpu02 was lost",
    first_step_at=10.0,
    last_step_at=266.0,
)
SPARE = Fleet(spares=("gpu09",))


def test_message_before_a_restart_names_the_cause_the_budget_and_the_new_host() -> None:
    restart = decide_next(OPTIONS, [LOST], SPARE)
    assert isinstance(restart, Restart)
    assert attempt_report.describe_failure(LOST) == "attempt 0 failed: gpu02 was lost"
    assert attempt_report.describe_restart(OPTIONS, restart) == "restart 1 of 3: gpu09 replaces gpu02 as node rank 1"


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (201, "attempt 1 continues at step 201 (57 steps repeated)"),
        (258, "attempt 1 continues at step 258 (0 steps repeated)"),
        (1, "attempt 1 begins at step 1 again, after step 257: the task does not resume"),
    ],
)
def test_message_about_the_first_step_says_what_was_lost(step: int, text: str) -> None:
    assert attempt_report.describe_first_step([LOST], 1, step) == text


def test_message_about_the_first_step_counts_attempts_that_a_check_refused() -> None:
    text = "attempt 2 continues at step 201 (57 steps repeated)"
    assert attempt_report.describe_first_step([LOST], 2, 201) == text


def test_first_attempt_needs_no_message() -> None:
    assert attempt_report.describe_first_step([], 0, 1) == ""


def test_advice_for_a_run_without_restarts_only_where_they_help() -> None:
    off = RecoveryOptions()
    for attempt, helps in ((LOST, False), (build_attempt(signature="signal", code=-9), True)):
        advice = attempt_report.describe_advice(advise_restarts(off, [attempt], Fleet()))
        assert advice.startswith("--max-restarts 3 would have restarted it on the same hosts") == helps
        assert bool(advice) == helps


def test_record_of_an_attempt_is_json_with_the_decision() -> None:
    restart = decide_next(OPTIONS, [LOST], SPARE)
    record = attempt_report.build_record("RUN", 255, LOST, restart, fence_until=3700.0, until=3710.0)
    line = json.dumps(record.to_dict())
    assert json.loads(line)["next"]["replaced"] == [["gpu02", "gpu09"]]
    assert parse_attempt_record(line) == record


def test_damaged_record_of_an_attempt_is_refused() -> None:
    record = attempt_report.build_record("RUN", 255, LOST, decide_next(OPTIONS, [LOST], SPARE)).to_dict()
    with pytest.raises(InvalidValue):
        parse_attempt_record(json.dumps(record | {"next": {"action": "dance"}}))
    with pytest.raises(InvalidValue):
        parse_attempt_record(json.dumps(record)[:-5])
