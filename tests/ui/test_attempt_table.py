"""Tables about attempts: a line for each one, the time lost by phase, repeated steps, and the productive share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fanout.model.attempt_record import AttemptRecord, FirstCause, NextAction
from fanout.ui import attempt_table

FIRST = AttemptRecord(
    attempt=0,
    run="R",
    hosts=("gpu01", "gpu02"),
    exit_code=255,
    began=1000.0,
    started=1010.0,
    failed=1300.0,
    ended=1304.0,
    first_step_at=1020.0,
    last_step_at=1280.0,
    steps=(1, 261),
    cause=FirstCause(signature="lost", host="gpu02", confidence="medium", text="gpu02 was lost"),
    lost=("gpu02",),
    next=NextAction(
        action="restart",
        failure_class="host-lost",
        changes="gpu09 replaces gpu02 as node rank 1",
        used=1,
        fence_until=1364.0,
        until=1374.0,
        replaced=(("gpu02", "gpu09"),),
    ),
)
REFUSED = replace(
    FIRST,
    attempt=1,
    hosts=("gpu01", "gpu09"),
    began=1374.0,
    started=None,
    failed=None,
    ended=1376.0,
    first_step_at=None,
    last_step_at=None,
    steps=None,
    cause=FirstCause(text="refused by the check: nothing was started"),
    next=NextAction(action="restart", failure_class="port-taken", changes="on the same hosts", used=1, until=1376.0),
)
LAST = replace(
    REFUSED,
    attempt=2,
    exit_code=0,
    began=1376.0,
    started=1377.0,
    ended=1700.0,
    first_step_at=1380.0,
    last_step_at=1579.0,
    steps=(201, 400),
    cause=FirstCause(),
    next=NextAction(action="end", reason="succeeded"),
)
RECORDS = [FIRST, REFUSED, LAST]


def test_report_has_a_line_for_each_attempt_and_the_lost_time() -> None:
    assert attempt_table.render_attempts(RECORDS) == [
        "",
        "ATTEMPT  HOSTS       STEPS    TIME        END                                        THEN",
        "0        gpu[01-02]  1-261    4 min 54 s  gpu02 was lost                             gpu09 replaces gpu02 as node rank 1",
        "1        gpu[01,09]  -        2.0 s       refused by the check: nothing was started  on the same hosts",
        "2        gpu[01,09]  201-400  5 min 23 s  succeeded                                  succeeded",
        "",
        "LOST BEFORE ATTEMPT  DETECT  END    FENCE  BACKOFF  CHECK  START  TOTAL",
        "2                    20 s    4.0 s  1 min  10 s     3.0 s  3.0 s  1 min 40 s",
        "productive: 58 % of 11 min 30 s; 61 steps repeated",
    ]


def test_time_lost_adds_up_to_the_time_between_the_steps() -> None:
    lost = attempt_table.measure_lost_time(RECORDS)[2]
    assert lost == {"detect": 20.0, "end": 4.0, "fence": 60.0, "backoff": 10.0, "check": 3.0, "start": 3.0}
    assert LAST.first_step_at is not None
    assert FIRST.last_step_at is not None
    assert sum(lost.values()) == LAST.first_step_at - FIRST.last_step_at


def test_productive_share_counts_no_step_twice() -> None:
    share = attempt_table.compute_productive_share(RECORDS)
    assert share == pytest.approx((200 * 1.0 + 200 * 1.0) / (1700.0 - 1010.0))
    assert attempt_table.count_repeated_steps(RECORDS) == 61


def test_unknown_steps_give_no_share() -> None:
    blind = [replace(each, steps=None, first_step_at=None, last_step_at=None) for each in RECORDS]
    lines = attempt_table.render_attempts(blind)
    assert not [line for line in lines if line.startswith("productive")]
    assert "detect" not in attempt_table.measure_lost_time(blind)[2]


def test_table_fits_into_a_terminal_of_80_columns() -> None:
    assert max(map(len, attempt_table.render_attempts(RECORDS, 80))) <= 80


@pytest.mark.parametrize(
    ("following", "lines"),
    [
        (NextAction(action="end", reason="succeeded"), []),
        (NextAction(action="end", reason="budget", why="too many"), ["not restarted: too many"]),
        (
            NextAction(action="end", reason="does-not-resume", why="the task does not resume"),
            ["not restarted: the task does not resume; --allow-from-scratch restarts it anyway"],
        ),
        (NextAction(action="end", reason="off", advice="--max-restarts 3 would help"), ["--max-restarts 3 would help"]),
        (NextAction(action="end", reason="requested", why="SIGINT before attempt 1"), []),
    ],
)
def test_report_of_one_attempt_has_only_the_reason(following: NextAction, lines: list[str]) -> None:
    assert attempt_table.render_attempts([replace(FIRST, next=following)]) == lines
    assert attempt_table.render_attempts([]) == []
