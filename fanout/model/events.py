"""Events: everything that can happen in a run, as frozen values.

An event describes what happened on one host, or to the run if it has no ``host``. Only views format it. ``at`` is in
seconds of the launcher's clock, which looks like Unix time but never jumps back (see ``Clock`` in pool.py).

Editing rules: every event is a member of ``Event``. The agent sends an ``AgentEvent`` as a message with its name and its
fields. Annotations bound the fields, in messages and in records. The fold in state.py has a case for each event, so mypy
finds a missing one. Other readers take only the events that they need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal, TypeAlias

from fanout.model.actions import Action
from fanout.model.connection_events import Connected as Connected
from fanout.model.connection_events import ConnectFailed as ConnectFailed
from fanout.model.connection_events import Connecting as Connecting
from fanout.model.connection_events import Disconnected as Disconnected
from fanout.model.connection_events import LoginOutput as LoginOutput
from fanout.model.connection_events import ReconnectFailed as ReconnectFailed
from fanout.model.container_events import ContainerLeft as ContainerLeft
from fanout.model.container_events import MachineExamined as MachineExamined
from fanout.model.event_base import NO_RANK as NO_RANK
from fanout.model.event_base import AgentEvent as AgentEvent
from fanout.model.event_base import BaseEvent as BaseEvent
from fanout.model.event_base import ExitCode, Line, Message, Offset, Pid, Rank, Seconds, Signal, Stream
from fanout.model.event_base import HostEvent as HostEvent
from fanout.model.event_base import get_type_name as get_type_name
from fanout.model.frozen import frozen
from fanout.model.schema import Integer, Number, Text
from fanout.model.stop_events import RankEnded as RankEnded
from fanout.model.stop_events import SaveHandlers as SaveHandlers
from fanout.model.stop_events import SaveRequested as SaveRequested
from fanout.model.stop_events import StopRequested as StopRequested

MAIN_STREAM = 0  # stdout and stderr of train.sh as one stream, in the order of the writes

# -- the run on one host


BROKE = "the connection broke"  # the error of a question whose connection ended before the answer
#: Reasons for a missing answer or fact. ``stuck``: its child waits in the kernel; ``no-sandbox``: no rehearsal is possible.
AnswerReason = Literal["", "unavailable", "timeout", "stuck", "no-sandbox", "failed", "connection-lost", "interrupted"]


@frozen
class Answered(HostEvent):
    """The agent's answer to a question: ``value``, or ``error`` and ``reason`` if there is no value (else "")."""

    ask: int
    value: Any
    error: str
    reason: AnswerReason = ""


@frozen
class Prepared(AgentEvent):
    """The host has taken its locks and found directory and script: Go starts it at once. ``pid`` is the keeper's."""

    pid: Pid


@frozen
class Refused(AgentEvent):
    """The agent will not start the run: ``kind`` is busy, no-directory, no-script, no-state, no-run, …"""

    kind: Line
    message: Message
    hint: Message


@frozen
class Started(AgentEvent):
    """train.sh started; ``pid`` is its pid on the host."""

    pid: Pid


@frozen
class RendezvousJoined(AgentEvent):
    """A step of the host on its way into the rendezvous.

    ``how`` is ``waiting`` (torchrun runs), ``joined`` (it is connected to MASTER_PORT, or its ranks run) or
    ``unresolved`` (torchrun or the ranks cannot resolve MASTER_ADDR).
    """

    how: Literal["waiting", "joined", "unresolved"]


@frozen
class RanksSeen(AgentEvent):
    """All ranks whose processes the keeper has seen on the host so far. It is sent again when there are more."""

    ranks: tuple[Rank, ...]

    def __post_init__(self) -> None:
        """Convert the list of a message or a record to a tuple."""
        object.__setattr__(self, "ranks", tuple(self.ranks))


@frozen
class StreamOpened(AgentEvent):
    """A stream of the host gets a name, for instance ``rank 5``. Stream 0 has no such event."""

    stream: Stream
    name: Annotated[str, Text(200)]


@frozen
class LogTruncated(AgentEvent):
    """The host has deleted the stream's bytes before ``upto``, because another launcher has received them."""

    stream: Stream
    upto: Offset


@frozen
class DiskPressure(AgentEvent):
    """The host has too little disk space for its log; ``message`` states what it does instead, or what is lost."""

    message: Message


@frozen
class Chunk(HostEvent):
    """Bytes of a stream, in order and without gaps; ``data`` begins at ``offset`` in the stream."""

    stream: int
    offset: int
    data: bytes


#: Reasons of an exit. ``ended``: train.sh ended by itself, or after a Stop; ``unknown``: nothing recorded the end.
ExitReason: TypeAlias = Literal[
    "ended", "not-started", "lease-expired", "keeper-signalled", "background-ended", "unkillable", "unknown"
]


@frozen
class Exited(AgentEvent):
    """train.sh ended. Exactly one of ``code`` and ``signal`` is set; both are None if the end is unknown (``why``).

    ``reason`` is for programs, ``why`` is the same as a text for people. ``silent_for`` is how many seconds the host had no
    contact with a launcher if its lease expired, else 0.
    """

    code: ExitCode | None
    signal: Signal | None
    reason: ExitReason = "ended"
    why: Message = ""
    oom: bool = False
    silent_for: Seconds = 0.0


#: What is done with processes that outlived train.sh: the run waited for them, or the keeper ended or kept them.
BackgroundEnd: TypeAlias = Literal["waited", "ended", "kept"]


@frozen
class BackgroundFound(AgentEvent):
    """Processes outlived train.sh. ``processes`` has one per line: pid and command. ``keeper`` is the keeper's pid."""

    how: BackgroundEnd
    processes: Message
    keeper: Pid


@frozen
class OutsideCalled(AgentEvent):
    """train.sh makes calls that start processes outside the keeper's tree: ``ssh to h2, tmux in line 3 of train.sh``."""

    calls: Message


@frozen
class Leftover:
    """A process that could not be killed: pid, state letter of /proc, kernel function it waits in, command line."""

    pid: int
    state: str
    wchan: str
    command: str


@frozen
class CleanedUp(AgentEvent):
    """The host was cleaned up: ``killed`` processes were killed after train.sh ended, those in ``left`` survived.

    ``whole`` is True if every byte of every stream arrived and the checksum agrees. ``dropped`` counts the bytes that
    the host could not store because its disk was full.
    """

    killed: int
    left: tuple[Leftover, ...] = ()
    whole: bool = True
    dropped: int = 0


@frozen
class Released(AgentEvent):
    """The agent deleted the run's directory on the host and exited."""


@frozen
class Heartbeat(AgentEvent):
    """A heartbeat of the agent; ``load`` is the load of the host (may be empty)."""

    load: Mapping[str, Any] = field(default_factory=dict)


#: Reasons of a loss. ``abandoned``: by policy or user; ``no-run``: the host has no such run; ``other-version``: of fanout.
#: ``container-ended``: it does not run, so no process of it is left; ``container-missing``: removed or renamed.
LossReason: TypeAlias = Literal[
    "abandoned", "no-run", "other-version", "protocol-error", "internal-error", "container-ended", "container-missing"
]


@frozen
class HostLost(HostEvent):
    """The launcher gave the host up. The end of its part is unknown, which is never success."""

    why: str
    reason: LossReason = "abandoned"


# -- the launcher itself

#: Phases between two attempts. ``fence``: a lost host may still train. ``backoff``: a pause after a fault that may pass.
RestartPhase: TypeAlias = Literal["fence", "backoff", "start"]


@frozen
class Restarting(BaseEvent):
    """The launcher starts attempt ``attempt`` after ``phase``, which ends at ``until``. It is sent once for each phase.

    ``cause`` is how the last attempt ended, ``failure_class`` its class, and ``action`` what the restart changes.
    """

    attempt: Annotated[int, Integer(1, 1 << 20)]
    phase: RestartPhase
    until: Annotated[float, Number(0, 1e12)]
    cause: Message
    action: Message
    failure_class: Line = ""


@frozen
class Tick(BaseEvent):
    """No event arrived for a moment; only time passed."""


@frozen
class Interrupted(BaseEvent):
    """A signal reached the launcher. ``by`` is the user who sent it by ``fanout stop``, "" if that is not known."""

    signal: Signal
    by: Line = ""


@frozen
class FirstStep(BaseEvent):
    """The log reported its first training step."""

    step: Annotated[int, Integer(0, 1 << 53)]


@frozen
class ActionSent(BaseEvent):
    """An action was carried out: it was handed to the host's connection."""

    action: Action


Event: TypeAlias = (
    Connecting
    | Connected
    | LoginOutput
    | ConnectFailed
    | Disconnected
    | ReconnectFailed
    | Answered
    | Prepared
    | Refused
    | Started
    | RendezvousJoined
    | SaveHandlers
    | RankEnded
    | RanksSeen
    | StreamOpened
    | LogTruncated
    | DiskPressure
    | Chunk
    | Exited
    | StopRequested
    | BackgroundFound
    | OutsideCalled
    | CleanedUp
    | Released
    | Heartbeat
    | HostLost
    | ContainerLeft
    | MachineExamined
    | Tick
    | Interrupted
    | Restarting
    | FirstStep
    | SaveRequested
    | ActionSent
)
