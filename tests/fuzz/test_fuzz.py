"""A sample of the fuzzing campaign: changed answers, frames and records of real hosts. ``make fuzz`` plays 100,000."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fanout.checks.engine.definition import CheckRequest
from fanout.model import answers
from fanout.model.state import InvalidTransition, Phase, RunState, apply_event
from fanout.preflight import run_checks
from tests.fuzz import records, targets
from tests.fuzz.play import Campaign

PLAYS = {"check": 120, "run": 120, "record": 60}


@pytest.mark.parametrize("name", PLAYS)
def test_a_sample_of_changed_inputs_ends_nothing(tmp_path: Path, name: str) -> None:
    campaign = Campaign(tmp_path, seed=7)
    campaign.play_all(PLAYS[name], only=name)
    assert not campaign.faults, campaign.format_outcome()
    assert campaign.played.total() == PLAYS[name]


class _Unchanged(random.Random):
    """A generator of random numbers that changes nothing."""

    def random(self) -> float:
        return 0.99

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return (start if stop is None else stop) - 1


def test_the_recorded_answers_are_valid() -> None:
    for what, value in targets.RECORDED["answers"]:
        kept, error = answers.check_answer(what, value)
        assert (error, kept) == ("", value)
        assert answers.INVALID not in kept


def test_the_recorded_run_reaches_its_end() -> None:
    """Otherwise the fuzzer would change messages that no code reads."""
    state = RunState.initial(targets.NAMES, at=0.0)
    for event in targets.decode_events(targets.pack_messages(message) for message in targets.RECORDED["messages"]):
        try:
            state = apply_event(state, event)
        except InvalidTransition:
            continue
    host = state.hosts["a"]
    assert host.phase is Phase.RELEASED
    assert host.exit is not None
    assert host.exit.code == 3
    assert host.received_bytes > 0


def test_the_recorded_check_has_something_to_judge() -> None:
    request = CheckRequest(hosts=targets.HOSTS, workdir="/home/ann/project", task="task.py")
    result = run_checks.run(request, targets.Changing(_Unchanged(), change=False), clock=lambda: 0.0)
    assert len(result.findings) > 40
    assert not result.case.invalid


def test_the_whole_record_is_reported(tmp_path: Path) -> None:
    records.make_record(tmp_path / "r1")
    for words in records.VERBS[:-1]:
        assert records.read_by(words, tmp_path).strip(), words
