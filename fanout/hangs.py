"""When to look closer: a run that has been quiet for too long, and one that has just failed; pure.

A hang is more than silence: nobody wrote a line, and between two looks at every rank nothing moved. Only the agent can
tell the latter, so a suspicion becomes a question to all hosts (``Examine``), and their answers are the finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.events import Examine
from fanout.state import HostState, Phase, RunState

STACKS, AFTERMATH = "stacks", "aftermath"
HANG = "hang"  # how the ``why`` of a Stop for a hang begins
ENDING = ("stop", "restart")  # what ends a run that hangs
ANSWER_SECONDS = {STACKS: 12.0, AFTERMATH: 6.0}
FIRST_NUMBER = 1_000_000  # of our questions; the check counts its own from 1
AUTO_START, AUTO_LEAST, AUTO_TIMES = 600.0, 60.0, 10.0
AUTO_CHUNKS = 50  # so often must the run have written before its rhythm counts


def limit(setting: str, state: RunState) -> float | None:
    """Seconds of silence that are too many: as said, or ten times the longest pause of this run so far."""
    if setting in ("", "off"):
        return None
    if setting != "auto":
        return float(setting)
    if state.chunks < AUTO_CHUNKS:
        return AUTO_START
    return max(AUTO_LEAST, AUTO_TIMES * state.longest_pause)


def look(setting: str, state: RunState) -> list[Examine]:
    """Ask all hosts where their ranks stand, once the run has been quiet for too long."""
    seconds = limit(setting, state)
    hosts = [host for host in state.all if host.phase is Phase.RUNNING and host.linked]
    if seconds is None or not hosts or state.failures or state.interrupts:
        return []
    if any(host.phase is Phase.PREPARED or waiting(state, host) for host in state.all):
        return []
    began = max(host.started_at or 0.0 for host in hosts)
    asked = asked_at(state)
    if found(state) or state.now - max(state.said_at or began, began, asked or 0.0) < seconds:
        return []
    return [_question(state, host, STACKS) for host in hosts]


def aftermath(state: RunState, *, hung: bool = False) -> list[Examine]:
    """Ask every host that was in it what it knows, once, before it is ended: as one failed by itself, or for a hang."""
    if state.interrupts or state.first_stop is not None or not (state.failures or hung):
        return []
    since = state.failures[0][1] if state.failures else asked_at(state) or 0.0
    return [
        _question(state, host, AFTERMATH)
        for host in state.all
        if host.linked and host.started_at is not None and host.forget_at is None
        if not any(at >= since for _, at in _asked(host, AFTERMATH))
    ]


def found(state: RunState) -> bool:
    """Return whether the last look shows a hang: all answered, nothing moved, and no host wrote a line since.

    What hosts write after the run was told to end changes nothing: a hang that the user stopped stays one.
    """
    asked = asked_at(state)
    if asked is None or (state.said_at or 0.0) > asked:
        return False
    if any(waiting(state, host) for host in state.all):
        return False
    answers = [value for _, value in told(state)]
    return any(value["ranks"] for value in answers) and not any(_moves(value) for value in answers)


def _moves(value: Mapping[str, Any]) -> bool:
    return bool(value.get("busy")) or any(rank.get("moved", True) for rank in value["ranks"])


def told(state: RunState) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(host, answer) of the last look at the stacks, as far as they came."""
    for host in state.all:
        asked = _asked(host, STACKS)
        answer = state.answers.get((host.name, asked[-1][0].ask)) if asked else None
        if answer is not None and not answer.error and isinstance(answer.value, Mapping) and "ranks" in answer.value:
            yield host.name, answer.value


def asked_at(state: RunState) -> float | None:
    """When the stacks were last asked for."""
    times = [at for host in state.all for _, at in _asked(host, STACKS)]
    return max(times) if times else None


def waiting(state: RunState, host: HostState) -> bool:
    """Is there a question to this host that may still be answered?"""
    return any(
        (host.name, question.ask) not in state.answers and state.now - at < ANSWER_SECONDS[question.what]
        for question, at in host.examined
    )


def _asked(host: HostState, what: str) -> list[tuple[Examine, float]]:
    return [(question, at) for question, at in host.examined if question.what == what]


def _question(state: RunState, host: HostState, what: str) -> Examine:
    lasted = state.now - (host.started_at or state.began_at)
    return Examine(host=host.name, ask=FIRST_NUMBER + len(host.examined), what=what, since=lasted)
