"""Run state: fold events into one frozen RunState, which holds facts and no decisions.

``apply_event(state, event)`` is pure. The table ``TRANSITIONS`` in host_phases.py lists the allowed changes of a host's phase.
An event without a row for the host's phase violates the protocol and raises ``InvalidTransition``. policy.py decides what to
do, ui/ shows the state, and outcome.py computes the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, TypeAlias

from fanout.model.actions import Abandon, Action, Go, Inspect, Kill, Prepare, Release, Save, Stop
from fanout.model.boots import Restart, find_restart
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
    FirstStep,
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
    Restarting,
    SaveHandlers,
    SaveRequested,
    Started,
    StopRequested,
    StreamOpened,
    Tick,
)
from fanout.model.fast_replace import FastReplace
from fanout.model.frozen import frozen
from fanout.model.host_phases import FINAL_PHASES
from fanout.model.host_phases import TRANSITIONS as TRANSITIONS
from fanout.model.host_phases import Phase as Phase
from fanout.model.host_state import HostFailure as HostFailure
from fanout.model.host_state import HostState as HostState

AWAY_SECONDS = 10.0  # between two events, where the clock ticks ten times a second


class InvalidTransition(Exception):
    """An event that the host's phase does not allow: the agent (or the host) violates the protocol."""


@frozen
class RunState:
    """All facts about a run. ``order`` and ``hosts`` are in rank order; ``failures`` are (host, time), the first first."""

    order: tuple[str, ...]
    hosts: Mapping[str, HostState]
    began_at: float
    now: float
    interrupts: tuple[int, ...] = ()
    interrupted_at: float | None = None  # when the user first interrupted the run, here or on its hosts
    stopped_by: str = ""  # the user who did that by ``fanout stop``
    failures: tuple[tuple[str, float], ...] = ()
    output_at: float | None = None  # when any host last wrote output before the stop request
    first_step_at: float | None = None  # when the log first reported a training step
    save_request: SaveRequested | None = None  # the newest planned stop that a user requested
    ending_at: float | None = None  # when the user first interrupted the run, or a Stop was first sent
    chunks: int = 0  # number of log chunks of all hosts
    longest_pause: float = 0.0  # longest time between two of them
    answers: Mapping[tuple[str, int], Answered] = field(default_factory=dict)
    awake_at: float = 0.0  # since when the launcher runs without a pause (before: suspended, or stopped)
    restart: Restarting | None = None  # what the launcher does before it starts the next attempt

    @classmethod
    def initial(cls, names: Iterable[str], *, at: float) -> RunState:
        order = tuple(names)
        return cls(order=order, hosts={name: HostState(name=name) for name in order}, began_at=at, now=at)

    @property
    def all_hosts(self) -> tuple[HostState, ...]:
        return tuple(self.hosts.values())  # they are in rank order, and every event keeps them there

    @property
    def is_over(self) -> bool:
        return all(host.phase in FINAL_PHASES for host in self.hosts.values())

    @property
    def first_stop(self) -> Stop | None:
        """Return the first Stop that was sent to a host; its ``why`` is the reason why the run is stopped."""
        stopped = [host for host in self.all_hosts if host.stop is not None]
        return min(stopped, key=lambda host: host.stop_at or 0.0).stop if stopped else None


def apply_event(state: RunState, event: Event) -> RunState:
    """Return the state after ``event``. Raises InvalidTransition if the host's phase does not allow it."""
    now = max(state.now, event.at)
    if now - state.now > AWAY_SECONDS:
        state = _RUN(state, awake_at=now)
    match event:
        case Chunk():
            return _apply_chunk(state, event, now)
        case Tick():
            return _RUN(state, now=now)
        case FirstStep():
            return _RUN(state, now=now, first_step_at=state.first_step_at or event.at)
        case SaveRequested():
            return _RUN(state, now=now, save_request=event)
        case Interrupted() | StopRequested():
            return _apply_user_stop(_RUN(state, now=now), event)
        case Restarting():
            return _RUN(state, now=now, restart=event)
        case ActionSent():
            host = state.hosts[event.action.host]
            ending = event.at if state.ending_at is None and isinstance(event.action, Stop) else state.ending_at
            hosts = {**state.hosts, host.name: _HOST(host, **_changes_of_action(host, event))}
            return _RUN(state, now=now, hosts=hosts, ending_at=ending)
        case Answered():
            contact_fields = {"last_message_at": event.at, "no_message_since": None, "lost_at": None}
            hosts = {**state.hosts, event.host: _HOST(state.hosts[event.host], **contact_fields)}
            return _RUN(state, now=now, hosts=hosts, answers={**state.answers, (event.host, event.ask): event})
        case HostEvent():
            before = state.hosts[event.host]
            phase = _next_phase(before, event)
            contact = {} if isinstance(event, _NO_CONTACT) else {"no_message_since": None}
            moved = {} if phase is before.phase else {"phase": phase, "progress_at": event.at}
            host = _HOST(before, **{**contact, **moved, **_changes_of_event(before, event)})
            failures = state.failures
            if host.has_failed and not before.has_failed:
                failures = tuple(sorted((*failures, (host.name, _failed_at(before, event))), key=lambda each: each[1]))
            return _RUN(state, now=now, hosts={**state.hosts, host.name: host}, failures=failures)


def _apply_user_stop(state: RunState, event: Interrupted | StopRequested) -> RunState:
    """Record that a user stops the run, on the launcher or on a host. The first stop names the user."""
    if isinstance(event, Interrupted):
        state = _RUN(state, interrupts=(*state.interrupts, event.signal))
    else:
        host = state.hosts[event.host]
        is_own = host.stop is not None and host.stop.reason == "stop-command"
        if is_own or not event.by:  # the keeper repeats the request of this launcher, and always names a user
            return state
        host = _HOST(host, last_message_at=event.at)
        state = _RUN(state, hosts={**state.hosts, host.name: host})
    if state.interrupted_at is not None:
        return state
    return _RUN(state, interrupted_at=event.at, stopped_by=event.by, ending_at=state.ending_at or state.now)


def _failed_at(before: HostState, event: HostEvent) -> float:
    """Return when a host failed. If its end is unknown, that is when its last message arrived.

    A failure of another host within the next heartbeat most likely follows from this loss.
    """
    is_unknown = isinstance(event, HostLost) or (
        isinstance(event, Exited) and event.code is None and event.signal is None
    )
    return before.lost_at if is_unknown and before.lost_at is not None else event.at


def _apply_chunk(state: RunState, event: Chunk, now: float) -> RunState:
    """Record output of a host, which is also output of the run: a run is silent only if all hosts are."""
    at, host = event.at, state.hosts[event.host]
    host = _HOST(
        host,
        received={**host.received, event.stream: event.offset + len(event.data)},
        first_output_at=host.first_output_at or at,
        last_output_at=at,
        usual_pause=max(0.9 * host.usual_pause, at - (host.last_output_at or at)),
        last_message_at=at,
        progress_at=at,
        no_message_since=None,
        lost_at=None,
    )
    pause = at - state.output_at if state.output_at is not None else 0.0
    return _RUN(
        state,
        now=now,
        hosts={**state.hosts, host.name: host},
        output_at=at if state.ending_at is None else state.output_at,
        chunks=state.chunks + 1,
        longest_pause=max(pause, state.longest_pause),
    )


#: Log chunks arrive thousands of times a second, and dataclasses.replace would take three times as long.
_HOST, _RUN = FastReplace(HostState), FastReplace(RunState)

#: No contact with the agent: a new connection counts only once the agent sends more than its hello.
_NO_CONTACT = (Connecting, Connected, Disconnected, ReconnectFailed, LoginOutput, ContainerLeft, MachineExamined)
_NOTICES = (DiskPressure, BackgroundFound, OutsideCalled, SaveHandlers, RankEnded, RanksSeen)
_KEEPS_PHASE = (
    LoginOutput,
    Disconnected,
    ReconnectFailed,
    ContainerLeft,
    MachineExamined,
    RendezvousJoined,
    StreamOpened,
    LogTruncated,
    *_NOTICES,
    Heartbeat,
)


def _next_phase(host: HostState, event: HostEvent) -> Phase:
    if isinstance(event, _KEEPS_PHASE):
        return host.phase
    try:
        return TRANSITIONS[host.phase, type(event)]
    except KeyError:
        raise InvalidTransition(f"{host.name}: {type(event).__name__} while {host.phase.value}") from None


def _changes_of_event(host: HostState, event: _ConnectionEvent | _RunEvent) -> dict[str, Any]:
    """Return the fields of the host's state that an event changes, except its phase."""
    if isinstance(event, _CONNECTION_EVENTS):
        return _changes_of_connection(host, event)
    return _changes_of_run(host, event)


_ConnectionEvent: TypeAlias = (
    Connecting
    | Connected
    | Disconnected
    | ReconnectFailed
    | LoginOutput
    | ConnectFailed
    | HostLost
    | ContainerLeft
    | MachineExamined
)
_CONNECTION_EVENTS = (*_NO_CONTACT, ConnectFailed, HostLost)
_StartEvent: TypeAlias = Prepared | Refused | Started | RendezvousJoined | StreamOpened | LogTruncated | DiskPressure
_EndEvent: TypeAlias = (
    Exited | BackgroundFound | OutsideCalled | SaveHandlers | RankEnded | RanksSeen | CleanedUp | Released | Heartbeat
)
_RunEvent: TypeAlias = _StartEvent | _EndEvent


def _changes_of_connection(host: HostState, event: _ConnectionEvent) -> dict[str, Any]:
    match event:
        case Connecting():
            return {"attempt": event.attempt, "connecting_at": event.at}
        case Connected():
            return {"connected": True, "connected_at": event.at, "took": event.took, "hello": event.hello, "disconnected_at": None,
                    "last_message_at": event.at, "restarted": host.restarted or _find_restart(host.hello, event.hello)}  # fmt: skip
        case Disconnected():
            return {"connected": False, "disconnected_at": host.disconnected_at or event.at, "disconnect_reason": event.why,
                    "no_message_since": host.no_message_since or event.at,
                    "lost_at": host.lost_at or host.last_message_at or event.at}  # fmt: skip
        case ReconnectFailed():
            return {"disconnect_reason": event.why}
        case LoginOutput():
            return {"login_output": (host.login_output + event.data)[-65536:]}
        case ConnectFailed():
            return {"connected": False, "trouble": HostFailure(kind=event.kind, message=event.message, hint=event.hint)}
        case ContainerLeft():
            return {"container_left": event.container}
        case MachineExamined():
            return {}
        case HostLost():
            return {"connected": False, "trouble": HostFailure(kind="lost", message=event.why, loss=event.reason)}


def _changes_of_run(host: HostState, event: _RunEvent) -> dict[str, Any]:
    match event:
        case Refused():
            return {"trouble": HostFailure(kind=event.kind, message=event.message, hint=event.hint)}
        case Started():
            return {"pid": event.pid, "started_at": host.started_at or event.at, "last_message_at": event.at}
        case RendezvousJoined():
            seen = ("waiting_at", f"{event.how}_at")
            return {"unresolved_at": None, **{name: getattr(host, name) or event.at for name in seen}}
        case StreamOpened():
            return {"streams": {**host.streams, event.stream: event.name}}
        case LogTruncated():
            return {"received": {**host.received, event.stream: event.upto}, "last_message_at": event.at}
        case Exited():
            return {"exit": host.exit or event, "last_message_at": event.at}
        case BackgroundFound() | OutsideCalled() | SaveHandlers() | RankEnded() | RanksSeen():
            return {**_changes_of_notice(host, event), "last_message_at": event.at}
        case CleanedUp():
            return {"cleaned_up": host.cleaned_up or event, "last_message_at": event.at}
        case Heartbeat():
            return {"last_message_at": event.at, "load": event.load or host.load, "lost_at": None}
        case Prepared() | Released() | DiskPressure():  # at most the phase changes
            return {"last_message_at": event.at}


def _changes_of_notice(
    host: HostState, event: BackgroundFound | OutsideCalled | SaveHandlers | RankEnded | RanksSeen
) -> dict[str, Any]:
    match event:
        case BackgroundFound():
            return {"background": {**host.background, event.how: event}}
        case OutsideCalled():
            return {"outside_calls": event.calls}
        case RanksSeen():
            return {"ranks_seen": event.ranks}
        case SaveHandlers() | RankEnded():
            return {"saving": host.saving.apply_event(event)}


def _find_restart(before: Mapping[str, Any], now: Mapping[str, Any]) -> Restart | None:
    """Return what the hellos of two connections show. One name may lead to several machines, so their names must agree."""
    if before.get("hostname") != now.get("hostname"):
        return None
    return find_restart(str(before.get("boot_id", "")), str(now.get("boot_id", "")))


_SENT_AT_FIELD: Mapping[type[Action], str] = {
    Prepare: "prepare_at",
    Go: "go_at",
    Kill: "kill_at",
    Release: "release_at",
}


def _changes_of_action(host: HostState, event: ActionSent) -> dict[str, Any]:
    """Return the fields of the host's state that an action changes."""
    action = event.action
    match action:
        case Prepare() | Go() | Kill() | Release():
            return {_SENT_AT_FIELD[type(action)]: event.at}
        case Stop():
            return {"stop": host.stop or action, "stop_at": host.stop_at or event.at}
        case Save():
            return {"saving": host.saving.note_action(action, event.at)}
        case Inspect():
            return {"examined": (*host.examined, (action, event.at))}
        case Abandon():
            return {}
