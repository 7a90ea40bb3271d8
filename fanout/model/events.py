"""Events and actions: everything that can happen in a run, and everything that fanout can do, as frozen values.

An event describes what happened on one host, or to the run if it has no ``host``. It carries no colour, no width and
no prefix, because only the views format it. ``at`` is in seconds of the launcher's clock, which looks like Unix time
but never jumps back (see ``Clock`` in pool.py). The policy returns actions. When an action was carried out, it comes
back as the event ``ActionSent``, so that the record of a run is complete.

Editing rules: this file imports nothing of fanout. Every event is a member of ``Event`` and every action a member of
``Action``. The fold in state.py and the messages in status_messages.py have a case for each of them, so mypy finds the
missing cases of a new one. Other readers take only the events that they need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

MAIN_STREAM = 0  # stdout and stderr of train.sh as one stream, in the order of the writes


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseEvent:
    """Base of all events; ``at`` is when the event reached the launcher."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEvent(BaseEvent):
    """Base of all events of one host; ``host`` is its name in the hostfile."""

    host: str


# -- the connection: one ssh channel (or local pipe) to the agent of one host


@dataclass(frozen=True, slots=True, kw_only=True)
class Connecting(HostEvent):
    """A connection attempt begins; ``attempt`` counts from 1."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(HostEvent):
    """The agent answered. ``hello`` is its first message: python, hostname, host_id, boot_id, pid, user, uid."""

    attempt: int
    took: float
    hello: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginOutput(HostEvent):
    """Bytes that the host's login printed before the agent started (motd, rc files). They are shown, never parsed."""

    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectFailed(HostEvent):
    """No connection, and no further attempt: ``kind`` is the name of the TransportError."""

    kind: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected(HostEvent):
    """An established connection broke; the run on the host continues under its lease.

    ``silent_for`` is how many seconds the host had been silent if that is why the launcher closed it, else 0.
    """

    why: str
    silent_for: float = 0.0


# -- the run on one host


BROKE = "the connection broke"  # the error of a question whose connection ended before the answer
#: Reasons for a missing answer or fact. ``stuck``: its child waits in the kernel; ``no-sandbox``: no rehearsal is possible.
AnswerReason = Literal["", "unavailable", "timeout", "stuck", "no-sandbox", "failed", "connection-lost", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(HostEvent):
    """The agent's answer to a question: ``value``, or ``error`` and ``reason`` if there is no value (else "")."""

    ask: int
    value: Any
    error: str
    reason: AnswerReason = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(HostEvent):
    """The host has taken its locks and found directory and script: Go starts it at once. ``pid`` is the keeper's."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(HostEvent):
    """The agent will not start the run: ``kind`` is busy, no-directory, no-script, no-state, no-run, …"""

    kind: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(HostEvent):
    """train.sh started; ``pid`` is its pid on the host."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RendezvousJoined(HostEvent):
    """A step of the host on its way into the rendezvous.

    ``how`` is ``waiting`` (torchrun runs), ``joined`` (it is connected to MASTER_PORT, or its ranks run) or
    ``unresolved`` (torchrun or the ranks cannot resolve MASTER_ADDR).
    """

    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOpened(HostEvent):
    """A stream of the host gets a name, for instance ``rank 5``. Stream 0 has no such event."""

    stream: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTruncated(HostEvent):
    """The host has deleted the stream's bytes before ``upto``, because another launcher has received them."""

    stream: int
    upto: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPressure(HostEvent):
    """The host has too little disk space for its log; ``message`` states what it does instead, or what is lost."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk(HostEvent):
    """Bytes of a stream, in order and without gaps; ``data`` begins at ``offset`` in the stream."""

    stream: int
    offset: int
    data: bytes


#: Reasons of an exit. ``ended``: train.sh ended by itself, or after a Stop; ``unknown``: nothing recorded the end.
ExitReason: TypeAlias = Literal["ended", "not-started", "lease-expired", "keeper-signalled", "unkillable", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited(HostEvent):
    """train.sh ended. Exactly one of ``code`` and ``signal`` is set; both are None if the end is unknown (``why``).

    ``reason`` is for programs, ``why`` is the same as a text for people. ``silent_for`` is how many seconds the host had no
    contact with a launcher if its lease expired, else 0.
    """

    code: int | None
    signal: int | None
    reason: ExitReason = "ended"
    why: str = ""
    oom: bool = False
    silent_for: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A process that could not be killed: pid, state letter of /proc, kernel function it waits in, command line."""

    pid: int
    state: str
    wchan: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedUp(HostEvent):
    """The host was cleaned up: ``killed`` processes were killed after train.sh ended, those in ``left`` survived.

    ``whole`` is True if every byte of every stream arrived and the checksum agrees. ``dropped`` counts the bytes that
    the host could not store because its disk was full.
    """

    killed: int
    left: tuple[Leftover, ...] = ()
    whole: bool = True
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(HostEvent):
    """The agent deleted the run's directory on the host and exited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(HostEvent):
    """A heartbeat of the agent; ``load`` is the load of the host (may be empty)."""

    load: Mapping[str, Any] = field(default_factory=dict)


#: Reasons of a loss. ``abandoned``: by policy or user; ``no-run``: the host has no such run; ``other-version``: of fanout.
LossReason: TypeAlias = Literal["abandoned", "no-run", "other-version", "protocol-error", "internal-error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLost(HostEvent):
    """The launcher gave the host up. The end of its part is unknown, which is never success."""

    why: str
    reason: LossReason = "abandoned"


# -- the launcher itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(BaseEvent):
    """No event arrived for a moment; only time passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted(BaseEvent):
    """A signal reached the launcher."""

    signal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSent(BaseEvent):
    """An action was carried out: it was handed to the host's connection."""

    action: Action


Event: TypeAlias = (
    Connecting
    | Connected
    | LoginOutput
    | ConnectFailed
    | Disconnected
    | Answered
    | Prepared
    | Refused
    | Started
    | RendezvousJoined
    | StreamOpened
    | LogTruncated
    | DiskPressure
    | Chunk
    | Exited
    | CleanedUp
    | Released
    | Heartbeat
    | HostLost
    | Tick
    | Interrupted
    | ActionSent
)


# -- actions

#: Reasons of a Stop. ``rolled-back``: a host undid Prepare by itself; ``rendezvous``: it can never complete.
StopReason: TypeAlias = Literal[
    "interrupted", "stop-command", "time-limit", "hang", "host-failed", "early-exit", "start-timeout", "rolled-back",
    "rendezvous", "launcher-died",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Send the host its part of the plan. The host takes its locks and checks paths, but starts nothing."""

    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """Start train.sh."""

    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Send SIGTERM, wait ``grace`` seconds for the whole process tree, then send SIGKILL. Before Go it undoes Prepare.

    ``reason`` is for programs, ``why`` is the same as a text for people.
    """

    host: str
    grace: float
    reason: StopReason
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Send SIGKILL at once."""

    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Delete the run's directory on the host and exit: the launcher has all bytes."""

    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandon:
    """Stop waiting for this host; the event HostLost follows."""

    host: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspect:
    """Ask the host about the run: ``what`` is ``stacks`` or ``aftermath``. Answered with the same ``ask`` follows."""

    host: str
    ask: int
    what: str
    since: float = 3600.0  # seconds since the start of the run; the host reports nothing that is older


Action: TypeAlias = Prepare | Go | Stop | Kill | Release | Abandon | Inspect
