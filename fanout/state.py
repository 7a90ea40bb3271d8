"""The fold: events in, one frozen RunState out; facts only, no wishes.

``advance(state, event)`` is pure. How a host's phase may change is one table, ``MOVES``; an event that has no row for
the phase it meets is a broken promise of the agent and raises ``ImpossibleMove``. What to do about a state is decided
in supervise.py, how it looks in views/, what it comes to in outcome.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
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
    Forgotten,
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
    Prepared,
    Refused,
    Started,
    Stop,
    StreamOpened,
    Tick,
    Trimmed,
    Unreached,
)

AWAY_SECONDS = 10.0  # between two events, where the clock ticks ten times a second


class ImpossibleMove(Exception):
    """An event that cannot follow from the host's phase: the agent (or the host) does not keep the protocol."""


class Phase(Enum):
    """Where one host stands. The order is that of a good run."""

    WAITING = "waiting"  # nobody has dialled yet
    DIALLING = "connecting"
    LINKED = "connected"  # the agent answers; checks run in this phase
    PREPARED = "ready"  # locks taken, script found
    RUNNING = "running"
    EXITED = "exited"  # train.sh ended, its tree is being looked at
    GONE = "gone"  # nothing of the run is left there, or it is known what is
    FORGOTTEN = "done"  # and the run's directory is removed
    UNREACHED = "unreached"
    REFUSED = "refused"
    LOST = "lost"  # given up; what happened there is unknown

    @property
    def over(self) -> bool:
        """Nothing more will come from this host."""
        return self in _OVER

    @property
    def failed_before_start(self) -> bool:
        return self in (Phase.UNREACHED, Phase.REFUSED)


_OVER = (Phase.FORGOTTEN, Phase.UNREACHED, Phase.REFUSED, Phase.LOST)  # asked at every event: no Enum is hashed for it

_W, _D, _L, _P, _R = Phase.WAITING, Phase.DIALLING, Phase.LINKED, Phase.PREPARED, Phase.RUNNING
_X, _G = Phase.EXITED, Phase.GONE

#: (phase, kind of event) -> phase. Events about the link, the clock and the bytes do not move a host.
MOVES: Mapping[tuple[Phase, type[OnHost]], Phase] = {
    (_W, Dialling): _D,
    (_D, Dialling): _D,
    (_D, Linked): _L,
    (_D, Unreached): Phase.UNREACHED,
    (_L, Unreached): Phase.UNREACHED,  # the link broke before anything was prepared, and did not come back
    (_L, Prepared): _P,
    (_L, Refused): Phase.REFUSED,
    (_L, Forgotten): Phase.FORGOTTEN,  # sent home before anything was prepared
    (_P, Prepared): _P,  # said again after a reconnect, like every fact below
    (_P, Refused): Phase.REFUSED,
    (_P, Started): _R,
    (_P, Exited): _X,  # execve itself failed
    (_P, Gone): _G,  # rolled back before Go
    (_R, Prepared): _R,
    (_R, Started): _R,
    (_R, Exited): _X,
    (_X, Prepared): _X,
    (_X, Started): _X,
    (_X, Exited): _X,
    (_X, Gone): _G,
    (_G, Prepared): _G,
    (_G, Started): _G,
    (_G, Exited): _G,
    (_G, Gone): _G,
    (_G, Forgotten): Phase.FORGOTTEN,
    **{(phase, Lost): Phase.LOST for phase in (_W, _D, _L, _P, _R, _X)},
    (_G, Lost): Phase.FORGOTTEN,  # how it ended is known; only the farewell did not come
    # after a reconnect the link's own events meet every later phase
    **{(phase, kind): phase for phase in (_L, _P, _R, _X, _G) for kind in (Dialling, Linked)},
}


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
        return all(host.phase in _OVER for host in self.hosts.values())

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
            hosts = {**state.hosts, event.host: _HOST(state.hosts[event.host], heard_at=event.at, unheard_since=None)}
            return _RUN(state, now=now, hosts=hosts, answers={**state.answers, (event.host, event.ask): event})
        case _:
            before = state.hosts[event.host]
            phase = _moved(before, event)
            contact = {} if isinstance(event, _NO_CONTACT) else {"unheard_since": None}
            moved = {} if phase is before.phase else {"phase": phase, "progress_at": event.at}
            host = _HOST(before, **{**contact, **moved, **_told(before, event)})
            newly = ((host.name, event.at),) if host.failed and not before.failed else ()
            return _RUN(state, now=now, hosts={**state.hosts, host.name: host}, failures=(*state.failures, *newly))


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
                    "heard_at": event.at}  # fmt: skip
        case LinkLost():
            return {"linked": False, "link_lost_at": host.link_lost_at or event.at, "link_lost_why": event.why,
                    "unheard_since": host.unheard_since or event.at}  # fmt: skip
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
            return {"heard_at": event.at, "load": event.load or host.load}
        case _:  # Prepared, Forgotten: the phase says it all
            return {"heard_at": event.at}


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
