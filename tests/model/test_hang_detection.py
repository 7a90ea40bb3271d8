"""When fanout looks closer: silence alone is a suspicion, a look in which nothing moved is a finding."""

from __future__ import annotations

from typing import Any

import pytest

from fanout.model import hang_detection
from fanout.model.errors import UsageError
from fanout.model.events import Action, ActionSent, Answered, CleanedUp, Inspect, Interrupted, Release, Stop
from fanout.model.policy import Policy, decide_actions
from fanout.model.settings import merge_settings
from tests.histories import History

POLICY = Policy(hang_timeout="10")
STILL = {"ranks": [{"rank": 0, "moved": False}], "busy": 0}
MOVES = {"ranks": [{"rank": 0, "moved": True}], "busy": 0}
WORKS = {"ranks": [{"rank": 0, "moved": False}], "busy": 2}


def running() -> History:
    run = History("gpu01", "gpu02").link().start()
    for host in run.hosts:
        run.say(host, b"step 1 loss 2.0\n")
    return run


def asked(run: History, policy: Policy = POLICY) -> list[Action]:
    """What the policy wishes now; questions among it are put."""
    actions = list(decide_actions(policy, run.play()))
    run.add(*(ActionSent(at=run.at, action=action) for action in actions))
    return actions


def answer(run: History, *values: dict[str, Any]) -> History:
    state = run.play()
    for host, value in zip(state.all_hosts, values, strict=True):
        question = host.examined[-1][0]
        run.add(Answered(at=run.at, host=host.name, ask=question.ask, value=value, error=""))
    return run


def test_nobody_looks_before_the_time_or_where_nobody_asked() -> None:
    run = running()
    run.wait(9.0)
    assert asked(run) == []
    run.wait(5000.0)
    assert asked(run, Policy()) == []


def test_after_the_silence_every_host_is_asked_once() -> None:
    run = running()
    run.wait(11.0)
    assert {(a.host, a.what) for a in asked(run) if isinstance(a, Inspect)} == {
        ("gpu01", "stacks"),
        ("gpu02", "stacks"),
    }
    assert asked(run) == []


@pytest.mark.parametrize(("second", "found"), [(STILL, True), (MOVES, False), (WORKS, False)])
def test_it_is_a_hang_only_where_nothing_moves_anywhere(second: dict[str, Any], found: bool) -> None:
    """One rank with another stack, or a compiler at work beside the ranks, and the run goes on."""
    run = running()
    run.wait(11.0)
    asked(run)
    answer(run, STILL, second)
    assert hang_detection.is_hung(run.play()) is found


def test_a_hang_is_ended_once_the_hosts_have_told_what_they_know() -> None:
    """What the kernel or a file system has to say of a hang is gone, or hard to find, after the run."""
    policy = Policy(hang_timeout="10", on_hang="stop")
    run = running()
    run.wait(11.0)
    asked(run, policy)
    answer(run, STILL, STILL)
    assert {(a.host, a.what) for a in asked(run, policy) if isinstance(a, Inspect)} == {
        ("gpu01", "aftermath"),
        ("gpu02", "aftermath"),
    }
    assert asked(run, policy) == []
    answer(run, {}, {})
    stops = asked(run, policy)
    assert [action.host for action in stops if isinstance(action, Stop) and action.why.startswith("hang: ")] == list(
        run.hosts
    )


def test_hosts_that_were_asked_for_a_hang_are_asked_again_when_the_run_fails_later() -> None:
    policy = Policy(hang_timeout="10", on_hang="stop")
    run = running()
    run.wait(11.0)
    asked(run, policy)
    answer(run, STILL, STILL)
    asked(run, policy)
    run.wait(1.0).say("gpu02", b"step 2 loss 1.9\n")
    answer(run, {}, {}).wait(1.0).end("gpu02", code=1)
    assert {a.host for a in asked(run, policy) if isinstance(a, Inspect)} == {"gpu01", "gpu02"}


def test_a_hang_is_reported_and_not_ended_by_default() -> None:
    """And told once: as long as nobody writes, nobody looks again."""
    run = running()
    run.wait(11.0)
    asked(run)
    answer(run, STILL, STILL).wait(60.0)
    assert hang_detection.is_hung(run.play())
    assert asked(run) == []


def test_a_run_that_writes_again_no_longer_hangs() -> None:
    run = running()
    run.wait(11.0)
    asked(run)
    answer(run, STILL, STILL).wait(1.0)
    run.say("gpu02", b"step 2 loss 1.9\n")
    assert not hang_detection.is_hung(run.play())
    run.wait(11.0)
    assert len(asked(run)) == 2


def test_a_run_that_moves_in_silence_is_looked_at_again_later() -> None:
    run = running()
    run.wait(11.0)
    asked(run)
    answer(run, MOVES, MOVES).wait(9.0)
    assert asked(run) == []
    run.wait(2.0)
    assert len(asked(run)) == 2


def test_a_host_that_does_not_answer_is_no_proof_of_a_hang() -> None:
    """Before its time is over nothing is found; afterwards the others' word counts."""
    run = running()
    run.wait(11.0)
    asked(run)
    question = run.play().hosts["gpu01"].examined[-1][0]
    run.add(Answered(at=run.at, host="gpu01", ask=question.ask, value=STILL, error=""))
    assert not hang_detection.is_hung(run.play())
    run.wait(13.0)
    assert hang_detection.is_hung(run.play())


def test_auto_learns_from_the_run() -> None:
    """Ten minutes until it has a rhythm, then ten times its longest pause, and never under a minute."""
    run = running()
    assert hang_detection.silence_limit("auto", run.play()) == 600.0
    for _ in range(60):
        run.wait(0.5)
        run.say("gpu01", b".")
    assert hang_detection.silence_limit("auto", run.play()) == 60.0
    run.wait(20.0)
    run.say("gpu01", b".")
    assert hang_detection.silence_limit("auto", run.play()) == pytest.approx(200.0)


def test_the_first_failure_asks_every_host_for_what_it_can_tell() -> None:
    """At once, before the others are ended; and a host is not let go before it has told."""
    run = running().end("gpu02", code=1)
    wanted = asked(run)
    assert {(a.host, a.what) for a in wanted if isinstance(a, Inspect)} == {
        ("gpu01", "aftermath"),
        ("gpu02", "aftermath"),
    }
    assert not any(isinstance(action, Stop) for action in wanted)
    run.wait(3.5)
    assert any(isinstance(action, Stop) for action in asked(run))


def test_nobody_is_let_go_while_he_still_has_to_tell() -> None:
    run = running().end("gpu02", code=1)
    asked(run)
    run.add(CleanedUp(at=run.at, host="gpu02", killed=0))
    assert not any(isinstance(action, Release) for action in decide_actions(POLICY, run.play()))
    run.wait(hang_detection.ANSWER_SECONDS["aftermath"] + 0.1)
    assert Release(host="gpu02") in decide_actions(POLICY, run.play())


def test_a_user_who_stops_the_run_waits_for_no_answers() -> None:
    run = running().add(Interrupted(at=running().at, signal=2)).end("gpu02", code=1)
    assert not any(isinstance(action, Inspect) for action in decide_actions(POLICY, run.play()))


@pytest.mark.parametrize("word", ["0", "-1", "soon", "nan", "inf"])
def test_a_patience_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="--hang-timeout must be auto, off, or a number of seconds"):
        merge_settings({"hang_timeout": word}, {}, [])


def test_a_patience_may_be_a_number_in_a_file() -> None:
    assert merge_settings({}, {}, [("fanout.toml", {"hang-timeout": 600})]).settings.hang_timeout == "600"
