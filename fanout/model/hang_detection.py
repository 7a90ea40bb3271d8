"""Hang detection and post-mortem questions: what to ask the hosts after silence or a failure. Pure.

A hang is more than silence: no rank wrote a line, and no rank made progress between two samples. Only the agent can
measure progress, so silence leads to a question to all hosts (``Inspect``), and their answers decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.model.actions import Inspect
from fanout.model.state import HostState, Phase, RunState

STACKS, AFTERMATH = "stacks", "aftermath"
ENDING = ("stop", "restart")  # values of --on-hang that stop a hung run
ANSWER_SECONDS = {STACKS: 12.0, AFTERMATH: 6.0}
FIRST_NUMBER = 1_000_000  # number of the first question here; the check numbers its own from 1
AUTO_START, AUTO_LEAST, AUTO_TIMES = 600.0, 60.0, 10.0
AUTO_CHUNKS = 50  # log chunks that the run must have written before its pauses count


def silence_limit(setting: str, state: RunState) -> float | None:
    """Return the seconds of silence after which a hang is possible, None for no limit.

    ``auto`` is ten times the longest pause of this run so far, and at least AUTO_LEAST.
    """
    if setting in ("", "off"):
        return None
    if setting != "auto":
        return float(setting)
    if state.chunks < AUTO_CHUNKS:
        return AUTO_START
    return max(AUTO_LEAST, AUTO_TIMES * state.longest_pause)


def ask_for_stacks(setting: str, state: RunState) -> list[Inspect]:
    """Return questions for the stacks of all ranks if the run has been silent for too long."""
    seconds = silence_limit(setting, state)
    hosts = [host for host in state.all_hosts if host.phase is Phase.RUNNING and host.connected]
    if seconds is None or not hosts or state.failures or state.interrupts:
        return []
    if any(host.phase is Phase.PREPARED or has_open_question(state, host) for host in state.all_hosts):
        return []
    began = max(host.started_at or 0.0 for host in hosts)
    asked = stacks_asked_at(state)
    if is_hung(state) or state.now - max(state.output_at or began, began, asked or 0.0) < seconds:
        return []
    return [_build_question(state, host, STACKS) for host in hosts]


def ask_for_aftermath(state: RunState, *, hung: bool = False) -> list[Inspect]:
    """Return the post-mortem questions, once per started host, before the run is stopped after a failure or a hang."""
    if state.interrupts or state.first_stop is not None or not (state.failures or hung):
        return []
    since = state.failures[0][1] if state.failures else stacks_asked_at(state) or 0.0
    return [
        _build_question(state, host, AFTERMATH)
        for host in state.all_hosts
        if host.connected and host.started_at is not None and host.release_at is None
        if not any(at >= since for _, at in _questions_about(host, AFTERMATH))
    ]


def is_hung(state: RunState) -> bool:
    """Return whether the last samples show a hang: all hosts answered, no rank progressed, no host wrote a line since.

    Output after the stop request changes nothing: a hang that the user stopped stays a hang.
    """
    asked = stacks_asked_at(state)
    if asked is None or (state.output_at or 0.0) > asked:
        return False
    if any(has_open_question(state, host) for host in state.all_hosts):
        return False
    answers = [value for _, value in stack_answers(state)]
    return any(value["ranks"] for value in answers) and not any(_makes_progress(value) for value in answers)


class HangWatch:
    """Finds each hang once, however many events follow while it lasts."""

    def __init__(self) -> None:
        self._asked_at: float | None = None  # when the stacks of the last hang were asked for

    def find_new(self, state: RunState) -> bool:
        """Return whether the last samples show a hang that was not found before."""
        asked = stacks_asked_at(state)
        if self._asked_at == asked or not is_hung(state):
            return False
        self._asked_at = asked
        return True


def _makes_progress(value: Mapping[str, Any]) -> bool:
    return bool(value.get("busy")) or any(rank.get("moved", True) for rank in value["ranks"])


def stack_answers(state: RunState) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (host, answer) of the last question about stacks, for the hosts that answered."""
    for host in state.all_hosts:
        asked = _questions_about(host, STACKS)
        answer = state.answers.get((host.name, asked[-1][0].ask)) if asked else None
        if answer is not None and not answer.error and isinstance(answer.value, Mapping) and "ranks" in answer.value:
            yield host.name, answer.value


def stacks_asked_at(state: RunState) -> float | None:
    """Return when the stacks were last asked for, None if never."""
    times = [at for host in state.all_hosts for _, at in _questions_about(host, STACKS)]
    return max(times) if times else None


def has_open_question(state: RunState, host: HostState) -> bool:
    """Return whether a question to this host may still be answered."""
    return any(
        (host.name, question.ask) not in state.answers and state.now - at < ANSWER_SECONDS[question.what]
        for question, at in host.examined
    )


def _questions_about(host: HostState, what: str) -> list[tuple[Inspect, float]]:
    return [(question, at) for question, at in host.examined if question.what == what]


def _build_question(state: RunState, host: HostState, what: str) -> Inspect:
    lasted = state.now - (host.started_at or state.began_at)
    return Inspect(host=host.name, ask=FIRST_NUMBER + len(host.examined), what=what, since=lasted)
