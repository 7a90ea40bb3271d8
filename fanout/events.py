"""The vocabulary: everything that can happen in a run, and everything that can be done about it, as frozen values.

An event says what happened on one host (or, without ``host``, to the run). It carries no colour, no width and no
prefix: how it looks is the views' business. ``at`` is in seconds of the launcher's clock, which looks like Unix time
but never jumps back (see ``Clock`` in fan.py). An Action is a wish of the policy; carried out, it comes back as ``Acted``,
so that the record of a run is whole.

Editing rules: leaves only (this file imports nothing of ours); every event is a member of ``Event``, every action of
``Action``, because ``match`` over them is checked for exhaustiveness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

MAIN_STREAM = 0  # train.sh's own stdout and stderr, as one stream, in the order in which they were written


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """Base of all events: when it reached the launcher."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OnHost(Happened):
    """Base of all events that belong to one host, by its name in the hostfile."""

    host: str


# -- the link: one ssh channel (or local pipe) to the agent of one host


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialling(OnHost):
    """A connection attempt begins; ``attempt`` counts from 1."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked(OnHost):
    """The agent answers. ``hello`` is what it said of itself: python, hostname, host_id, boot_id, pid, user, uid."""

    attempt: int
    took: float
    hello: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise(OnHost):
    """Bytes that the host's login printed before the agent spoke (motd, rc files): shown, never parsed."""

    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreached(OnHost):
    """No connection, and no further attempt: ``kind`` is the name of the TransportError."""

    kind: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLost(OnHost):
    """The link broke after it had been up; the run on the host goes on under its lease."""

    why: str


# -- the run on one host


BROKE = "the connection broke"  # the error of a question whose connection ended before the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(OnHost):
    """The agent's answer to a question: ``value``, or ``error`` where it could not be had ("" if it could)."""

    ask: int
    value: Any
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(OnHost):
    """Locks taken, directory and script looked up: the host would start at once on Go. ``pid`` is the keeper's."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(OnHost):
    """The agent will not start the run: ``kind`` is busy, no-directory, no-script, no-state, no-run, …"""

    kind: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(OnHost):
    """train.sh runs; ``pid`` is its pid on the host."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined(OnHost):
    """The host came to the rendezvous.

    ``how``: ``waiting``, its torchrun is up; ``joined``, it is on MASTER_PORT, or its ranks are up; ``unresolved``, its
    torchrun or its ranks cannot resolve MASTER_ADDR.
    """

    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOpened(OnHost):
    """A stream of the host gets a name, for instance ``rank 5``; stream 0 needs no introduction."""

    stream: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed(OnHost):
    """The host has let go of the stream's bytes before ``upto``: another launcher has them."""

    stream: int
    upto: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cramped(OnHost):
    """The host has not the room for the log that it should have: what it does instead, or what is lost by it."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk(OnHost):
    """Bytes of a stream, in order and without gaps: ``offset`` is where ``data`` begins in the stream."""

    stream: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited(OnHost):
    """train.sh ended: exactly one of ``code`` and ``signal`` is set; both None: it could not be learned (``why``)."""

    code: int | None
    signal: int | None
    why: str = ""
    oom: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A process that could not be ended: pid, state letter of /proc, kernel function it waits in, command line."""

    pid: int
    state: str
    wchan: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone(OnHost):
    """The host was looked over: ``killed`` processes had to be ended after train.sh, ``left`` could not be.

    ``whole`` is True when every byte of every stream arrived and the checksum agrees; ``dropped`` counts bytes that
    the host could not keep (its disk was full).
    """

    killed: int
    left: tuple[Leftover, ...] = ()
    whole: bool = True
    dropped: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten(OnHost):
    """The agent removed the run's directory from the host and left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat(OnHost):
    """The agent lives; ``load`` holds what it reports of the host (may be empty)."""

    load: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost(OnHost):
    """The host was given up: what happened there is unknown, which is never success."""

    why: str


# -- the launcher itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Happened):
    """Nothing happened for a moment; time passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted(Happened):
    """A signal reached the launcher."""

    signal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Acted(Happened):
    """An action was carried out (handed to the host's link)."""

    action: Action


Event: TypeAlias = (
    Dialling
    | Linked
    | Noise
    | Unreached
    | LinkLost
    | Answered
    | Prepared
    | Refused
    | Started
    | Joined
    | StreamOpened
    | Trimmed
    | Cramped
    | Chunk
    | Exited
    | Gone
    | Forgotten
    | Beat
    | Lost
    | Tick
    | Interrupted
    | Acted
)


# -- actions


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Send the host its part of the plan: take the locks, look things up, start nothing."""

    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """Start train.sh."""

    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """TERM, ``grace`` seconds for the whole tree, then KILL. Before Go it undoes Prepare."""

    host: str
    grace: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """KILL at once."""

    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """All bytes are here: remove the run's directory on the host and leave."""

    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Stop waiting for this host; it comes back as Lost."""

    host: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Examine:
    """Ask the host about the run: ``what`` is ``stacks`` or ``aftermath``; it comes back as Answered with ``ask``."""

    host: str
    ask: int
    what: str
    since: float = 3600.0  # seconds for which the run has lasted: what is older is none of its business


Action: TypeAlias = Prepare | Go | Stop | Kill | Forget | GiveUp | Examine
