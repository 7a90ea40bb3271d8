"""The fold: events in, one frozen RunState out; facts only, no wishes.

``advance(state, event)`` is pure. How a host's phase may change is one table, ``MOVES`` in phases.py; an event that has no row for
the phase it meets is a broken promise of the agent and raises ``ImpossibleMove``. What to do about a state is decided
in supervise.py, how it looks in views/, what it comes to in outcome.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fanout.changed import Changed
from fanout.events import (
    Acted,
    Action,
    Answered,
    Beat,
    Chunk,
    Cramped,
    Dialling,
    Event,
    Examine,
    Exited,
    Forget,
    GiveUp,
    Go,
    Gone,
    Interrupted,
    Joined,
    Kill,
    Linked,
    LinkLost,
    Lost,
    Noise,
    OnHost,
    Prepare,
    Refused,
    Started,
    Stop,
    StreamOpened,
    Tick,
    Trimmed,
    Unreached,
)
from fanout.phases import MOVES as MOVES
from fanout.phases import OVER
from fanout.phases import Phase as Phase

AWAY_SECONDS = 10.0  # between two events, where the clock ticks ten times a second


class ImpossibleMove(Exception):
    """An event that cannot follow from the host's phase: the agent (or the host) does not keep the protocol."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a host is out: ``kind`` names it for programs, message and hint for people."""

    kind: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """All that is known of one host."""

    name: str
    phase: Phase = Phase.WAITING
    attempt: int = 0  # connection attempts so far, over the whole run
    took: float = 0.0  # seconds that the last successful attempt took
    linked: bool = False  # is the link up now
    linked_at: float | None = None
    link_lost_at: float | None = None
    link_lost_why: str = ""
    unheard_since: float | None = None  # when the link broke after which the agent has sent nothing but its hello
    hello: Mapping[str, Any] = field(default_factory=dict)
    rebooted: bool = (
        False  # the same machine was linked again under another boot id: all its earlier processes are gone
    )
    noise: bytes = b""
    trouble: Trouble | None = None
    pid: int | None = None
    started_at: float | None = None
    waiting_at: float | None = None  # its torchrun was seen
    joined_at: float | None = None  # it was seen on MASTER_PORT
    unresolved_at: float | None = None  # since when MASTER_ADDR does not resolve there
    streams: Mapping[int, str] = field(default_factory=dict)  # names of the streams beyond the main one
    received: Mapping[int, int] = field(default_factory=dict)  # bytes of each stream that are here
    first_output_at: float | None = None
    last_output_at: float | None = None
    heard_at: float | None = None  # last sign of life of the agent
    lost_at: float | None = None  # when the host can have been lost, if it has given no new sign of life since
    progress_at: float | None = None  # when the run last came on there: a new phase, or new bytes of its log
    load: Mapping[str, Any] = field(default_factory=dict)
    exit: Exited | None = None
    gone: Gone | None = None
    prepare_at: float | None = None
    go_at: float | None = None
    stop: Stop | None = None
    stop_at: float | None = None
    kill_at: float | None = None
    forget_at: float | None = None
    examined: tuple[tuple[Examine, float], ...] = ()  # what it was asked about the run, and when

    @property
    def bytes(self) -> int:
        return sum(self.received.values())

    @property
    def succeeded(self) -> bool:
        """Exit status 0, of the script's own accord: one that its host ended makes what it likes of the TERM."""
        return self.exit is not None and self.exit.code == 0 and not self.exit.why

    @property
    def failed(self) -> bool:
        """Ended in a way that is not success, or will never end in one."""
        return (self.exit is not None and not self.succeeded) or self.phase in (
            Phase.UNREACHED,
            Phase.REFUSED,
            Phase.LOST,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """All that is known of a run. ``order`` is rank order; ``failures`` are host names, first failure first."""

    order: tuple[str, ...]
    hosts: Mapping[str, HostState]
    began_at: float
    now: float
    interrupts: tuple[int, ...] = ()
    interrupted_at: float | None = None  # when the first of them came
    failures: tuple[tuple[str, float], ...] = ()
    said_at: float | None = None  # when any host last wrote anything before the run was told to end
    ending_at: float | None = None  # when the user first interrupted the run, or a host was first told to stop
    chunks: int = 0  # how often one did
    longest_pause: float = 0.0  # the longest time for which none did, in between
    answers: Mapping[tuple[str, int], Answered] = field(default_factory=dict)
    awake_at: float = 0.0  # since when we look on without a break: before that we were stopped, or our machine slept

    @classmethod
    def new(cls, names: Iterable[str], *, at: float) -> RunState:
        order = tuple(names)
        return cls(order=order, hosts={name: HostState(name=name) for name in order}, began_at=at, now=at)

    @property
    def all(self) -> tuple[HostState, ...]:
        return tuple(self.hosts[name] for name in self.order)

    @property
    def over(self) -> bool:
        return all(host.phase in OVER for host in self.hosts.values())

    @property
    def first_stop(self) -> Stop | None:
        """The first Stop that was sent to anybody: its ``why`` is why the run is being ended."""
        stopped = [host for host in self.all if host.stop is not None]
        return min(stopped, key=lambda host: host.stop_at or 0.0).stop if stopped else None


def advance(state: RunState, event: Event) -> RunState:
    """The state after ``event``. Raises ImpossibleMove for an event that its host's phase does not allow."""
    now = max(state.now, event.at)
    if now - state.now > AWAY_SECONDS:
        state = _RUN(state, awake_at=now)
    match event:
        case Chunk():
            return _spoken(state, event, now)
        case Tick():
            return _RUN(state, now=now)
        case Interrupted():
            since = now if state.ending_at is None else state.ending_at
            first = event.at if state.interrupted_at is None else state.interrupted_at
            interrupts = (*state.interrupts, event.signal)
            return _RUN(state, now=now, interrupts=interrupts, interrupted_at=first, ending_at=since)
        case Acted():
            host = state.hosts[event.action.host]
            ending = event.at if state.ending_at is None and isinstance(event.action, Stop) else state.ending_at
            hosts = {**state.hosts, host.name: _HOST(host, **_done(host, event))}
            return _RUN(state, now=now, hosts=hosts, ending_at=ending)
        case Answered():
            heard = {"heard_at": event.at, "unheard_since": None, "lost_at": None}
            hosts = {**state.hosts, event.host: _HOST(state.hosts[event.host], **heard)}
            return _RUN(state, now=now, hosts=hosts, answers={**state.answers, (event.host, event.ask): event})
        case _:
            before = state.hosts[event.host]
            phase = _moved(before, event)
            contact = {} if isinstance(event, _NO_CONTACT) else {"unheard_since": None}
            moved = {} if phase is before.phase else {"phase": phase, "progress_at": event.at}
            host = _HOST(before, **{**contact, **moved, **_told(before, event)})
            failures = state.failures
            if host.failed and not before.failed:
                failures = tuple(sorted((*failures, (host.name, _failed_at(before, event))), key=lambda each: each[1]))
            return _RUN(state, now=now, hosts={**state.hosts, host.name: host}, failures=failures)


def _failed_at(before: HostState, event: OnHost) -> float:
    """When a host failed. One whose end is unknown may have been lost as soon as it was last heard.

    A failure elsewhere within the next heartbeat is far likelier to follow from that than to be a coincidence.
    """
    is_unknown = isinstance(event, Lost) or (isinstance(event, Exited) and event.code is None and event.signal is None)
    return before.lost_at if is_unknown and before.lost_at is not None else event.at


def _spoken(state: RunState, event: Chunk, now: float) -> RunState:
    """A host wrote something, and so the whole run did: it is quiet only while all hosts are."""
    at, host = event.at, state.hosts[event.host]
    host = _HOST(
        host,
        received={**host.received, event.stream: event.offset + len(event.data)},
        first_output_at=host.first_output_at or at,
        last_output_at=at,
        heard_at=at,
        progress_at=at,
        unheard_since=None,
        lost_at=None,
    )
    pause = at - state.said_at if state.said_at is not None else 0.0
    return _RUN(
        state,
        now=now,
        hosts={**state.hosts, host.name: host},
        said_at=at if state.ending_at is None else state.said_at,
        chunks=state.chunks + 1,
        longest_pause=max(pause, state.longest_pause),
    )


#: Pieces of log come thousands of times a second: dataclasses.replace would take three times as long.
_HOST, _RUN = Changed(HostState), Changed(RunState)

_NO_CONTACT = (Dialling, Linked, LinkLost, Noise)  # a link that comes back and is silent again is none
_STILL = (Noise, LinkLost, Joined, StreamOpened, Trimmed, Cramped, Beat)


def _moved(host: HostState, event: OnHost) -> Phase:
    if isinstance(event, _STILL):
        return host.phase
    try:
        return MOVES[host.phase, type(event)]
    except KeyError:
        raise ImpossibleMove(f"{host.name}: {type(event).__name__} while {host.phase.value}") from None


def _told(host: HostState, event: OnHost) -> dict[str, Any]:
    """What an event changes of what is known of its host, the phase apart."""
    match event:
        case Dialling():
            return {"attempt": event.attempt}
        case Linked():
            return {"linked": True, "linked_at": event.at, "took": event.took, "hello": event.hello, "link_lost_at": None,
                    "heard_at": event.at, "rebooted": host.rebooted or _is_rebooted(host.hello, event.hello)}  # fmt: skip
        case LinkLost():
            return {"linked": False, "link_lost_at": host.link_lost_at or event.at, "link_lost_why": event.why,
                    "unheard_since": host.unheard_since or event.at,
                    "lost_at": host.lost_at or host.heard_at or event.at}  # fmt: skip
        case Noise():
            return {"noise": (host.noise + event.data)[-65536:]}
        case Unreached() | Refused():
            up = host.linked and isinstance(event, Refused)
            return {"linked": up, "trouble": Trouble(kind=event.kind, message=event.message, hint=event.hint)}
        case Lost():
            return {"linked": False, "trouble": Trouble(kind="lost", message=event.why)}
        case Started():
            return {"pid": event.pid, "started_at": host.started_at or event.at, "heard_at": event.at}
        case Joined():
            seen = ("waiting_at", f"{event.how}_at")
            return {"unresolved_at": None, **{name: getattr(host, name) or event.at for name in seen}}
        case StreamOpened():
            return {"streams": {**host.streams, event.stream: event.name}}
        case Trimmed():
            return {"received": {**host.received, event.stream: event.upto}, "heard_at": event.at}
        case Exited():
            return {"exit": host.exit or event, "heard_at": event.at}
        case Gone():
            return {"gone": host.gone or event, "heard_at": event.at}
        case Beat():
            return {"heard_at": event.at, "load": event.load or host.load, "lost_at": None}
        case _:  # Prepared, Forgotten: the phase says it all
            return {"heard_at": event.at}


def _is_rebooted(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return whether two connections met one machine in two boots. Behind one name there may be several machines."""
    booted, same = before.get("boot_id"), before.get("hostname") == now.get("hostname")
    return bool(same and booted and now.get("boot_id") and booted != now["boot_id"])


_NOTED_IN: Mapping[type[Action], str] = {Prepare: "prepare_at", Go: "go_at", Kill: "kill_at", Forget: "forget_at"}


def _done(host: HostState, event: Acted) -> dict[str, Any]:
    """What an action changes of what is known of its host."""
    action = event.action
    match action:
        case Prepare() | Go() | Kill() | Forget():
            return {_NOTED_IN[type(action)]: event.at}
        case Stop():
            return {"stop": host.stop or action, "stop_at": host.stop_at or event.at}
        case Examine():
            return {"examined": (*host.examined, (action, event.at))}
        case GiveUp():
            return {}
