"""Hang detection: silence starts an inspection, and an inspection without any progress is a hang."""

from __future__ import annotations

from typing import Any

import pytest

from fanout.model import hang_detection
from fanout.model.actions import Action, Inspect, Release, Stop
from fanout.model.errors import UsageError
from fanout.model.events import ActionSent, Answered, CleanedUp, Interrupted
from fanout.model.policy import Policy, decide_actions
from fanout.model.settings import merge_settings
from tests.histories import History

POLICY = Policy(hang_timeout="10")
STILL = {"ranks": [{"rank": 0, "moved": False}], "busy": 0}
MOVES = {"ranks": [{"rank": 0, "moved": True}], "busy": 0}
WORKS = {"ranks": [{"rank": 0, "moved": False}], "busy": 2}


def build_running() -> History:
    run = History("gpu01", "gpu02").connect_hosts().start_hosts()
    for host in run.hosts:
        run.add_output(host, b"step 1 loss 2.0\n")
    return run


def decide_and_ask(run: History, policy: Policy = POLICY) -> list[Action]:
    """Return the actions of the policy; its questions count as asked."""
    actions = list(decide_actions(policy, run.play_events()))
    run.add_events(*(ActionSent(at=run.at, action=action) for action in actions))
    return actions


def answer_questions(run: History, *values: dict[str, Any]) -> History:
    state = run.play_events()
    for host, value in zip(state.all_hosts, values, strict=True):
        question = host.examined[-1][0]
        run.add_events(Answered(at=run.at, host=host.name, ask=question.ask, value=value, error=""))
    return run


def test_no_inspection_before_the_time_or_without_the_option() -> None:
    run = build_running()
    run.pass_time(9.0)
    assert decide_and_ask(run) == []
    run.pass_time(5000.0)
    assert decide_and_ask(run, Policy()) == []


def test_after_the_silence_every_host_is_asked_once() -> None:
    run = build_running()
    run.pass_time(11.0)
    assert {(a.host, a.what) for a in decide_and_ask(run) if isinstance(a, Inspect)} == {
        ("gpu01", "stacks"),
        ("gpu02", "stacks"),
    }
    assert decide_and_ask(run) == []


@pytest.mark.parametrize(("second", "found"), [(STILL, True), (MOVES, False), (WORKS, False)])
def test_hang_needs_every_host_without_progress(second: dict[str, Any], found: bool) -> None:
    """If one rank has another stack, or a compiler works beside the ranks, the run continues."""
    run = build_running()
    run.pass_time(11.0)
    decide_and_ask(run)
    answer_questions(run, STILL, second)
    assert hang_detection.is_hung(run.play_events()) is found


def test_a_hang_is_stopped_after_the_hosts_have_answered() -> None:
    """Facts of the kernel or a file system about a hang are gone, or hard to find, after the run."""
    policy = Policy(hang_timeout="10", on_hang="stop")
    run = build_running()
    run.pass_time(11.0)
    decide_and_ask(run, policy)
    answer_questions(run, STILL, STILL)
    assert {(a.host, a.what) for a in decide_and_ask(run, policy) if isinstance(a, Inspect)} == {
        ("gpu01", "aftermath"),
        ("gpu02", "aftermath"),
    }
    assert decide_and_ask(run, policy) == []
    answer_questions(run, {}, {})
    stops = decide_and_ask(run, policy)
    assert [action.host for action in stops if isinstance(action, Stop) and action.why.startswith("hang: ")] == list(
        run.hosts
    )


def test_hosts_that_were_asked_about_a_hang_are_asked_again_when_the_run_fails_later() -> None:
    policy = Policy(hang_timeout="10", on_hang="stop")
    run = build_running()
    run.pass_time(11.0)
    decide_and_ask(run, policy)
    answer_questions(run, STILL, STILL)
    decide_and_ask(run, policy)
    run.pass_time(1.0).add_output("gpu02", b"step 2 loss 1.9\n")
    answer_questions(run, {}, {}).pass_time(1.0).end_hosts("gpu02", code=1)
    assert {a.host for a in decide_and_ask(run, policy) if isinstance(a, Inspect)} == {"gpu01", "gpu02"}


def test_a_hang_is_reported_and_not_stopped_by_default() -> None:
    """It is reported once: without new output there is no new inspection."""
    run = build_running()
    run.pass_time(11.0)
    decide_and_ask(run)
    answer_questions(run, STILL, STILL).pass_time(60.0)
    assert hang_detection.is_hung(run.play_events())
    assert decide_and_ask(run) == []


def test_a_run_that_writes_again_no_longer_hangs() -> None:
    run = build_running()
    run.pass_time(11.0)
    decide_and_ask(run)
    answer_questions(run, STILL, STILL).pass_time(1.0)
    run.add_output("gpu02", b"step 2 loss 1.9\n")
    assert not hang_detection.is_hung(run.play_events())
    run.pass_time(11.0)
    assert len(decide_and_ask(run)) == 2


def test_a_run_that_moves_in_silence_is_inspected_again_later() -> None:
    run = build_running()
    run.pass_time(11.0)
    decide_and_ask(run)
    answer_questions(run, MOVES, MOVES).pass_time(9.0)
    assert decide_and_ask(run) == []
    run.pass_time(2.0)
    assert len(decide_and_ask(run)) == 2


def test_a_host_that_does_not_answer_is_no_proof_of_a_hang() -> None:
    """There is no finding before the timeout of its answer; afterwards the other answers count."""
    run = build_running()
    run.pass_time(11.0)
    decide_and_ask(run)
    question = run.play_events().hosts["gpu01"].examined[-1][0]
    run.add_events(Answered(at=run.at, host="gpu01", ask=question.ask, value=STILL, error=""))
    assert not hang_detection.is_hung(run.play_events())
    run.pass_time(13.0)
    assert hang_detection.is_hung(run.play_events())


def test_auto_learns_from_the_run() -> None:
    """The timeout is ten minutes until pauses are known, then ten times the longest pause, at least a minute."""
    run = build_running()
    assert hang_detection.silence_limit("auto", run.play_events()) == 600.0
    for _ in range(60):
        run.pass_time(0.5)
        run.add_output("gpu01", b".")
    assert hang_detection.silence_limit("auto", run.play_events()) == 60.0
    run.pass_time(20.0)
    run.add_output("gpu01", b".")
    assert hang_detection.silence_limit("auto", run.play_events()) == pytest.approx(200.0)


def test_the_first_failure_asks_every_host_for_its_facts() -> None:
    """This happens at once, before the others are stopped; a host is not released before its answer."""
    run = build_running().end_hosts("gpu02", code=1)
    wanted = decide_and_ask(run)
    assert {(a.host, a.what) for a in wanted if isinstance(a, Inspect)} == {
        ("gpu01", "aftermath"),
        ("gpu02", "aftermath"),
    }
    assert not any(isinstance(action, Stop) for action in wanted)
    run.pass_time(3.5)
    assert any(isinstance(action, Stop) for action in decide_and_ask(run))


def test_no_host_is_released_before_its_answer() -> None:
    run = build_running().end_hosts("gpu02", code=1)
    decide_and_ask(run)
    run.add_events(CleanedUp(at=run.at, host="gpu02", killed=0))
    assert not any(isinstance(action, Release) for action in decide_actions(POLICY, run.play_events()))
    run.pass_time(hang_detection.ANSWER_SECONDS["aftermath"] + 0.1)
    assert Release(host="gpu02") in decide_actions(POLICY, run.play_events())


def test_a_host_that_failed_and_cleaned_up_before_the_decision_is_asked_first() -> None:
    run = build_running().end_hosts("gpu02", code=1)
    run.add_events(CleanedUp(at=run.at, host="gpu02", killed=0))
    wanted = decide_and_ask(run)
    assert {a.host for a in wanted if isinstance(a, Inspect)} == {"gpu01", "gpu02"}
    assert not any(isinstance(action, Release) for action in wanted)


def test_user_stop_does_not_wait_for_hang_answers() -> None:
    run = build_running().add_events(Interrupted(at=build_running().at, signal=2)).end_hosts("gpu02", code=1)
    assert not any(isinstance(action, Inspect) for action in decide_actions(POLICY, run.play_events()))


@pytest.mark.parametrize("word", ["0", "-1", "soon", "nan", "inf"])
def test_an_invalid_timeout_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="--hang-timeout must be"):
        merge_settings({"hang_timeout": word}, {}, [])


def test_a_timeout_may_be_a_number_in_a_file() -> None:
    assert merge_settings({}, {}, [("fanout.toml", {"hang-timeout": 600})]).settings.hang_timeout == "600"
