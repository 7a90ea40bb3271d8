"""Messages about attempts: before a restart, at the first step, and the table at the end."""

from __future__ import annotations

import json

import pytest

from fanout.recovery import attempt_report
from fanout.recovery.attempt import Fleet, RecoveryOptions
from fanout.recovery.decision import Restart, advise_restarts, decide_next
from tests.recovery.test_decision import OPTIONS, build_attempt

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
DONE = build_attempt(
    1, (201, 400), hosts=("gpu01", "gpu09", "gpu03", "gpu04"), succeeded=True, first_step_at=7210.0, last_step_at=7409.0
)
SPARE = Fleet(spares=("gpu09",))


def test_message_before_a_restart_names_the_cause_the_budget_and_the_new_host() -> None:
    restart = decide_next(OPTIONS, [LOST], SPARE)
    assert isinstance(restart, Restart)
    assert attempt_report.format_restart(OPTIONS, LOST, restart).splitlines() == [
        "attempt 0 failed: gpu02 was lost",
        "        restart 1 of 3: gpu09 replaces gpu02 as node rank 1",
    ]


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (201, "attempt 1 continues at step 201 (57 steps repeated)"),
        (258, "attempt 1 continues at step 258 (0 steps repeated)"),
        (1, "attempt 1 begins at step 1 again, after step 257: the task does not resume"),
    ],
)
def test_message_about_the_first_step_says_what_was_lost(step: int, text: str) -> None:
    assert attempt_report.describe_first_step([LOST], step) == text


def test_first_attempt_needs_no_message() -> None:
    assert attempt_report.describe_first_step([], 1) == ""


def test_report_has_a_line_for_each_attempt_and_the_productive_share() -> None:
    history = [LOST, DONE]
    decisions = [decide_next(OPTIONS, history[:count], SPARE) for count in (1, 2)]
    lines = attempt_report.list_report_lines(history, decisions, decisions[-1], None)
    assert lines[1].split() == ["ATTEMPT", "HOSTS", "STEPS", "TIME", "END", "THEN"]
    assert "gpu09 replaces gpu02 as node rank 1" in lines[2]
    assert "201-400" in lines[3]
    share = attempt_report.compute_productive_share(history)
    assert share is not None
    assert abs(share - (200 + 200) / (7200.0 + 3600.0)) < 0.001
    assert lines[4].endswith("57 steps repeated")


def test_report_of_a_run_without_restarts_advises_them_only_where_they_help() -> None:
    off = RecoveryOptions()
    for attempt, helps in ((LOST, False), (build_attempt(signature="signal", code=-9), True)):
        end = decide_next(off, [attempt], Fleet())
        advice = advise_restarts(off, [attempt], Fleet())
        lines = attempt_report.list_report_lines([attempt], [end], end, advice)
        assert bool(lines) == helps
        assert not lines or lines[0].startswith("--max-restarts 3 would have restarted it on the same hosts")


def test_record_of_an_attempt_is_json_with_the_decision() -> None:
    restart = decide_next(OPTIONS, [LOST], SPARE)
    record = json.loads(json.dumps(attempt_report.build_record("RUN", 255, LOST, restart)))
    assert record["next"]["replaced"] == [["gpu02", "gpu09"]]
    assert record["steps"] == [1, 257]
