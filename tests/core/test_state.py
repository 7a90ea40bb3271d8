"""The fold: every move of the table, nothing beside it, and what a history adds up to."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.changed import Changed
from fanout.events import (
    Acted,
    Answered,
    Beat,
    Chunk,
    Cramped,
    Dialling,
    Event,
    Exited,
    Forget,
    Forgotten,
    Go,
    Gone,
    Interrupted,
    Joined,
    Linked,
    LinkLost,
    Lost,
    Noise,
    OnHost,
    Prepared,
    Refused,
    Started,
    Stop,
    StreamOpened,
    Tick,
    Trimmed,
    Unreached,
)
from fanout.state import MOVES, HostState, ImpossibleMove, Phase, RunState, advance
from tests.histories import TYPICAL, History

SAMPLES: dict[type[OnHost], Event] = {
    type(event): event
    for event in (
        Dialling(at=5.0, host="h", attempt=2),
        Linked(at=5.0, host="h", attempt=2, took=0.1, hello={"python": "3.11.0"}),
        Noise(at=5.0, host="h", data=b"motd\n"),
        Unreached(at=5.0, host="h", kind="Unreachable", message="no route", hint="ping"),
        LinkLost(at=5.0, host="h", why="silence"),
        Answered(at=5.0, host="h", ask=1, value=3, error=""),
        Prepared(at=5.0, host="h", pid=7),
        Refused(at=5.0, host="h", kind="busy", message="busy: run X", hint="wait"),
        Started(at=5.0, host="h", pid=8),
        Joined(at=5.0, host="h", how="joined"),
        Cramped(at=5.0, host="h", message="no room"),
        StreamOpened(at=5.0, host="h", stream=1, name="rank 0"),
        Trimmed(at=5.0, host="h", stream=1, upto=9),
        Chunk(at=5.0, host="h", stream=0, offset=0, data=b"x"),
        Exited(at=5.0, host="h", code=0, signal=None),
        Gone(at=5.0, host="h", killed=0),
        Forgotten(at=5.0, host="h"),
        Beat(at=5.0, host="h", load={"one": 1}),
        Lost(at=5.0, host="h", why="gave up"),
    )
    if isinstance(event, OnHost)
}
STILL = {Noise, LinkLost, Joined, StreamOpened, Trimmed, Cramped, Chunk, Beat, Answered}


def at(phase: Phase) -> RunState:
    host = HostState(name="h", phase=phase)
    return RunState(order=("h",), hosts={"h": host}, began_at=0.0, now=1.0)


def test_there_is_a_sample_of_every_event_of_a_host() -> None:
    assert set(SAMPLES) == {kind for kind in get_args(Event) if issubclass(kind, OnHost)}


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
def test_a_host_moves_by_the_table_and_by_nothing_else(phase: Phase, kind: type[OnHost]) -> None:
    before = at(phase)
    copy = replace(before)
    if kind in STILL:
        assert advance(before, SAMPLES[kind]).hosts["h"].phase is phase
    elif (phase, kind) in MOVES:
        assert advance(before, SAMPLES[kind]).hosts["h"].phase is MOVES[phase, kind]
    else:
        with pytest.raises(ImpossibleMove, match=f"h: {kind.__name__} while {phase.value}"):
            advance(before, SAMPLES[kind])
    assert before == copy


def test_every_phase_can_be_reached_and_the_last_ones_are_never_left() -> None:
    assert {Phase.WAITING, *MOVES.values()} == set(Phase)
    assert not {phase for phase, _ in MOVES if phase.over}


@pytest.mark.parametrize("name", TYPICAL)
def test_a_typical_run_comes_to_its_end(name: str) -> None:
    state = TYPICAL[name]().play()
    assert state.over
    assert state.now == TYPICAL[name]().at


def test_time_never_runs_backwards() -> None:
    state = advance(at(Phase.RUNNING), Tick(at=9.0))
    assert advance(state, Beat(at=3.0, host="h")).now == 9.0


def test_failures_stand_in_the_order_in_which_they_came_and_once_each() -> None:
    history = History("a", "b", "c").link().start()
    history.wait(1).end("b", code=3).wait(1).end("c", code=None, signal=9).end("b", code=3).wait(1).end("a")
    state = history.play()
    assert [name for name, _ in state.failures] == ["b", "c"]
    assert state.failures[1][1] - state.failures[0][1] == pytest.approx(1.0)


def test_the_first_word_on_how_it_ended_is_the_one_that_counts() -> None:
    """After a reconnect facts are said again; they change nothing."""
    state = at(Phase.RUNNING)
    for code in (3, 0):
        state = advance(state, Exited(at=2.0, host="h", code=code, signal=None))
    first = Gone(at=3.0, host="h", killed=2)
    for gone in (first, Gone(at=4.0, host="h", killed=0)):
        state = advance(state, gone)
    host = state.hosts["h"]
    assert host.exit is not None
    assert (host.exit.code, host.gone) == (3, first)


def test_a_link_that_is_lost_and_found_leaves_the_phase_alone() -> None:
    state = at(Phase.RUNNING)
    for event in (LinkLost(at=2.0, host="h", why="silence"), LinkLost(at=3.0, host="h", why="again")):
        state = advance(state, event)
    assert state.hosts["h"].link_lost_at == 2.0
    state = advance(state, Dialling(at=4.0, host="h", attempt=2))
    state = advance(state, Linked(at=5.0, host="h", attempt=2, took=0.1, hello={}))
    assert state.hosts["h"].linked
    assert state.hosts["h"].link_lost_at is None
    assert state.hosts["h"].phase is Phase.RUNNING


def test_bytes_are_counted_a_stream() -> None:
    state = at(Phase.RUNNING)
    for stream, offset, data in ((0, 0, b"abc"), (1, 0, b"x"), (0, 3, b"de")):
        state = advance(state, Chunk(at=2.0, host="h", stream=stream, offset=offset, data=data))
    assert dict(state.hosts["h"].received) == {0: 5, 1: 1}
    assert state.hosts["h"].bytes == 6


def test_noise_is_kept_but_not_without_bound() -> None:
    state = at(Phase.DIALLING)
    for _ in range(3):
        state = advance(state, Noise(at=2.0, host="h", data=b"n" * 60_000))
    assert len(state.hosts["h"].noise) == 65_536


def test_answers_are_kept_by_host_and_number() -> None:
    answer = SAMPLES[Answered]
    assert advance(at(Phase.LINKED), answer).answers == {("h", 1): answer}


def test_every_interrupt_is_remembered() -> None:
    state = at(Phase.RUNNING)
    for number in (2, 15):
        state = advance(state, Interrupted(at=2.0, signal=number))
    assert state.interrupts == (2, 15)


def test_what_was_done_is_remembered_and_the_first_stop_gives_the_reason() -> None:
    state = History("a", "b").link().start().play()
    assert all(host.prepare_at is not None and host.go_at is not None for host in state.all)
    for moment, host, why in ((1e10, "b", "first"), (2e10, "a", "second"), (3e10, "b", "third")):
        state = advance(state, Acted(at=moment, action=Stop(host=host, grace=1.0, why=why)))
    assert state.first_stop is not None
    assert state.first_stop.why == "first"
    assert state.hosts["b"].stop_at == 1e10


@pytest.mark.parametrize("action", [Go(host="h"), Forget(host="h")])
def test_an_action_moves_no_phase(action: Go | Forget) -> None:
    assert advance(at(Phase.PREPARED), Acted(at=2.0, action=action)).hosts["h"].phase is Phase.PREPARED


@given(st.lists(st.sampled_from(["name", "phase", "received", "heard_at"]), unique=True))
def test_a_changed_value_is_what_replace_makes(names: list[str]) -> None:
    """Fast, and otherwise the same; the old value stays what it was."""
    old = HostState(name="h1", streams={1: "rank 0"})
    changes = {name: f"new {name}" for name in names}
    assert Changed(HostState)(old, **changes) == replace(old, **changes)  # type: ignore[arg-type]
    assert old == HostState(name="h1", streams={1: "rank 0"})
