"""The fold of events to a state: every move of the table, no other move, and the result of whole histories."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.model.actions import Go, Release, Stop
from fanout.model.container_events import ContainerLeft, MachineExamined
from fanout.model.events import (
    ActionSent,
    Answered,
    BackgroundFound,
    Chunk,
    CleanedUp,
    Connected,
    ConnectFailed,
    Connecting,
    Disconnected,
    DiskPressure,
    Event,
    Exited,
    Heartbeat,
    HostEvent,
    HostLost,
    Interrupted,
    LoginOutput,
    LogTruncated,
    OutsideCalled,
    Prepared,
    RankEnded,
    RanksSeen,
    ReconnectFailed,
    Refused,
    Released,
    RendezvousJoined,
    SaveHandlers,
    Started,
    StopRequested,
    StreamOpened,
    Tick,
)
from fanout.model.fast_replace import FastReplace
from fanout.model.state import TRANSITIONS, HostState, InvalidTransition, Phase, RunState, apply_event
from tests.histories import TYPICAL, History

SAMPLES: dict[type[HostEvent], Event] = {
    type(event): event
    for event in (
        Connecting(at=5.0, host="h", attempt=2),
        Connected(at=5.0, host="h", attempt=2, took=0.1, hello={"python": "3.11.0"}),
        LoginOutput(at=5.0, host="h", data=b"motd\n"),
        ConnectFailed(at=5.0, host="h", kind="Unreachable", message="no route", hint="ping"),
        Disconnected(at=5.0, host="h", why="silence"),
        ReconnectFailed(at=5.0, host="h", why="container work: it is paused", hint="unpause it"),
        Answered(at=5.0, host="h", ask=1, value=3, error=""),
        Prepared(at=5.0, host="h", pid=7),
        Refused(at=5.0, host="h", kind="busy", message="busy: run X", hint="wait"),
        Started(at=5.0, host="h", pid=8),
        RendezvousJoined(at=5.0, host="h", how="joined"),
        SaveHandlers(at=5.0, host="h", signal="USR1", ranks=(0,), others=(), sent=True),
        RankEnded(at=5.0, host="h", rank=0, seconds=1.5),
        RanksSeen(at=5.0, host="h", ranks=(0, 1)),
        DiskPressure(at=5.0, host="h", message="no room"),
        BackgroundFound(at=5.0, host="h", how="waited", processes="pid 7 torchrun", keeper=3),
        OutsideCalled(at=5.0, host="h", calls="ssh to h2"),
        StopRequested(at=5.0, host="h", by="ann@pc"),
        StreamOpened(at=5.0, host="h", stream=1, name="rank 0"),
        LogTruncated(at=5.0, host="h", stream=1, upto=9),
        Chunk(at=5.0, host="h", stream=0, offset=0, data=b"x"),
        Exited(at=5.0, host="h", code=0, signal=None),
        CleanedUp(at=5.0, host="h", killed=0),
        Released(at=5.0, host="h"),
        Heartbeat(at=5.0, host="h", load={"one": 1}),
        HostLost(at=5.0, host="h", why="gave up"),
        ContainerLeft(at=5.0, host="h", container="fanout-1"),
        MachineExamined(at=5.0, host="h", value={"kernel": []}, error=""),
    )
    if isinstance(event, HostEvent)
}
STILL = {
    LoginOutput,
    Disconnected,
    ReconnectFailed,
    RendezvousJoined,
    SaveHandlers,
    RankEnded,
    RanksSeen,
    StreamOpened,
    LogTruncated,
    DiskPressure,
    BackgroundFound,
    OutsideCalled,
    StopRequested,
    ContainerLeft,
    MachineExamined,
    Chunk,
    Heartbeat,
    Answered,
}


def build_state(phase: Phase) -> RunState:
    host = HostState(name="h", phase=phase)
    return RunState(order=("h",), hosts={"h": host}, began_at=0.0, now=1.0)


def test_there_is_a_sample_of_every_event_of_a_host() -> None:
    assert set(SAMPLES) == {kind for kind in get_args(Event) if issubclass(kind, HostEvent)}


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
def test_a_host_moves_only_by_the_table(phase: Phase, kind: type[HostEvent]) -> None:
    before = build_state(phase)
    copy = replace(before)
    if kind in STILL:
        assert apply_event(before, SAMPLES[kind]).hosts["h"].phase is phase
    elif (phase, kind) in TRANSITIONS:
        assert apply_event(before, SAMPLES[kind]).hosts["h"].phase is TRANSITIONS[phase, kind]
    else:
        with pytest.raises(InvalidTransition, match=f"h: {kind.__name__} while {phase.value}"):
            apply_event(before, SAMPLES[kind])
    assert before == copy


def test_every_phase_can_be_reached_and_the_last_ones_are_never_left() -> None:
    assert {Phase.WAITING, *TRANSITIONS.values()} == set(Phase)
    assert not {phase for phase, _ in TRANSITIONS if phase.is_final}


@pytest.mark.parametrize("name", TYPICAL)
def test_a_typical_run_reaches_its_end(name: str) -> None:
    state = TYPICAL[name]().play_events()
    assert state.is_over
    assert state.now == TYPICAL[name]().at


def test_time_never_runs_backwards() -> None:
    state = apply_event(build_state(Phase.RUNNING), Tick(at=9.0))
    assert apply_event(state, Heartbeat(at=3.0, host="h")).now == 9.0


def test_failures_are_in_the_order_of_their_arrival_and_once_each() -> None:
    history = History("a", "b", "c").connect_hosts().start_hosts()
    history.pass_time(1).end_hosts("b", code=3).pass_time(1).end_hosts("c", code=None, signal=9).end_hosts(
        "b", code=3
    ).pass_time(1).end_hosts("a")
    state = history.play_events()
    assert [name for name, _ in state.failures] == ["b", "c"]
    assert state.failures[1][1] - state.failures[0][1] == pytest.approx(1.0)


def test_the_first_report_of_an_end_counts() -> None:
    """After a reconnect the agent repeats facts; they change nothing."""
    state = build_state(Phase.RUNNING)
    for code in (3, 0):
        state = apply_event(state, Exited(at=2.0, host="h", code=code, signal=None))
    first = CleanedUp(at=3.0, host="h", killed=2)
    for gone in (first, CleanedUp(at=4.0, host="h", killed=0)):
        state = apply_event(state, gone)
    host = state.hosts["h"]
    assert host.exit is not None
    assert (host.exit.code, host.cleaned_up) == (3, first)


def test_a_link_that_is_lost_and_found_does_not_change_the_phase() -> None:
    state = build_state(Phase.RUNNING)
    for event in (Disconnected(at=2.0, host="h", why="silence"), Disconnected(at=3.0, host="h", why="again")):
        state = apply_event(state, event)
    assert state.hosts["h"].disconnected_at == 2.0
    state = apply_event(state, Connecting(at=4.0, host="h", attempt=2))
    state = apply_event(state, Connected(at=5.0, host="h", attempt=2, took=0.1, hello={}))
    assert state.hosts["h"].connected
    assert state.hosts["h"].disconnected_at is None
    assert state.hosts["h"].phase is Phase.RUNNING


def test_bytes_are_counted_for_each_stream() -> None:
    state = build_state(Phase.RUNNING)
    for stream, offset, data in ((0, 0, b"abc"), (1, 0, b"x"), (0, 3, b"de")):
        state = apply_event(state, Chunk(at=2.0, host="h", stream=stream, offset=offset, data=data))
    assert dict(state.hosts["h"].received) == {0: 5, 1: 1}
    assert state.hosts["h"].received_bytes == 6


def test_login_output_is_kept_within_bounds() -> None:
    state = build_state(Phase.CONNECTING)
    for _ in range(3):
        state = apply_event(state, LoginOutput(at=2.0, host="h", data=b"n" * 60_000))
    assert len(state.hosts["h"].login_output) == 65_536


def test_answers_are_kept_by_host_and_number() -> None:
    answer = SAMPLES[Answered]
    assert apply_event(build_state(Phase.CONNECTED), answer).answers == {("h", 1): answer}


def test_every_interrupt_is_recorded() -> None:
    state = build_state(Phase.RUNNING)
    for number in (2, 15):
        state = apply_event(state, Interrupted(at=2.0, signal=number))
    assert state.interrupts == (2, 15)


def test_actions_are_recorded_and_the_first_stop_gives_the_reason() -> None:
    state = History("a", "b").connect_hosts().start_hosts().play_events()
    assert all(host.prepare_at is not None and host.go_at is not None for host in state.all_hosts)
    for moment, host, why in ((1e10, "b", "first"), (2e10, "a", "second"), (3e10, "b", "third")):
        state = apply_event(
            state, ActionSent(at=moment, action=Stop(host=host, grace=1.0, reason="host-failed", why=why))
        )
    assert state.first_stop is not None
    assert state.first_stop.why == "first"
    assert state.hosts["b"].stop_at == 1e10


@pytest.mark.parametrize("action", [Go(host="h"), Release(host="h")])
def test_an_action_moves_no_phase(action: Go | Release) -> None:
    assert (
        apply_event(build_state(Phase.PREPARED), ActionSent(at=2.0, action=action)).hosts["h"].phase is Phase.PREPARED
    )


@given(st.lists(st.sampled_from(["name", "phase", "received", "last_message_at"]), unique=True))
def test_fast_replace_equals_dataclasses_replace(names: list[str]) -> None:
    """It is only faster; the old value does not change."""
    old = HostState(name="h1", streams={1: "rank 0"})
    changes = {name: f"new {name}" for name in names}
    assert FastReplace(HostState)(old, **changes) == replace(old, **changes)  # type: ignore[arg-type]
    assert old == HostState(name="h1", streams={1: "rank 0"})
