"""End of an attempt for the restart decision: who failed, where, and how far the training came."""

from __future__ import annotations

from typing import Any

import pytest

from fanout.diagnose.verdict import Cause, Verdict
from fanout.model.outcome import outcome_of
from fanout.recovery.attempt import AttemptEnd
from fanout.run.attempt_end import build_attempt_end
from fanout.run.step_progress import StepProgress
from tests.histories import (
    History,
    build_interrupted_run,
    build_unreachable_run,
    good_run,
    play_events,
    second_host_fails,
)

FRAMES = (
    'File "/opt/venv/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1751, in _call_impl',
    'File "/home/ann/project/train.py", line 98, in step',
    'File "/opt/venv/lib/python3.11/site-packages/torch/functional.py", line 9, in einsum',
)


def build_end(history: History, verdict: Verdict | None = None, *, steps: StepProgress | None = None) -> AttemptEnd:
    steps = steps or StepProgress()
    state = play_events(history.hosts, history.events, steps)
    return build_attempt_end(2, state, outcome_of(state), verdict, steps)


def build_verdict(**fields: Any) -> Verdict:
    cause = Cause(**{"signature": "python-exception", "says": "ended", "host": "gpu02", **fields})
    return Verdict(cause=cause, confidence="high")


def test_success_has_no_cause() -> None:
    end = build_end(good_run())
    assert (end.number, end.succeeded, end.signature, end.lost, end.unclean) == (2, True, "", (), ())


def test_failure_has_the_cause_and_the_exit_status_of_its_host() -> None:
    end = build_end(second_host_fails(), build_verdict(text="shape mismatch: 4096 and 8192"))
    assert (end.host, end.code, end.signature, end.confidence) == ("gpu02", 3, "python-exception", "high")
    assert end.hosts == ("gpu01", "gpu02", "gpu03")
    assert end.requested == ""


def test_place_ignores_numbers_and_names_the_innermost_frame_of_the_user() -> None:
    places = {
        build_end(second_host_fails(), build_verdict(text=text, traceback=FRAMES, host=host)).place
        for text, host in (("bad sample 17 at 0x7f12", "gpu01"), ("bad sample 99 at 0x7faa", "gpu02"))
    }
    assert places == {"python-exception bad sample # at # /home/ann/project/train.py:98"}


def test_interrupt_is_a_request_and_no_failure() -> None:
    assert build_end(build_interrupted_run()).requested == "interrupted"


def test_unreachable_host_is_not_lost() -> None:
    assert build_end(build_unreachable_run()).lost == ()


@pytest.mark.parametrize("burst", [False, True])
def test_first_and_last_step_come_from_the_log_also_if_it_arrives_at_once(burst: bool) -> None:
    lines = [f"step {step}/100 loss {9 / step:.3f}\n".encode() for step in range(21, 60)]
    history = History("gpu01", "gpu02").connect_hosts().start_hosts()
    for data in [b"".join(lines)] if burst else lines:
        history.add_output("gpu01", data)
    steps = StepProgress()
    reported: list[int] = []
    steps.on_first = reported.append
    end = build_end(history.end_hosts(), steps=steps)
    assert end.steps is not None
    assert (end.steps.first, end.steps.last, reported) == (21, 59, [21])
