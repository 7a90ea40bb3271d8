"""Evidence about a failed run, as values.

Times are seconds of one clock; ``Evidence.error`` is the possible difference between two hosts. Ranks are global; None
if the line does not show the rank (ranks that share one stream).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Literal

from fanout.diagnose.flight_dumps import FlightDump
from fanout.diagnose.last_lines import StreamTail
from fanout.diagnose.signatures import Kind, Role
from fanout.model.boots import find_restart
from fanout.model.events import ExitReason, LossReason
from fanout.model.frozen import frozen


@frozen
class LogMatch:
    """A line that matches a signature. ``traceback`` is the traceback that ends with it."""

    at: float
    host: str
    rank: int | None
    signature: str
    role: Role
    says: str
    advice: str
    text: str
    file: str
    line: int  # its number in the file
    kind: Kind = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    traceback: tuple[str, ...] = ()
    reported: bool = False  # torchrun quoted it, some seconds after it was logged
    followed: bool = False  # an error about a peer follows in the same traceback
    trailing: int = 0  # lines that follow it in its file

    @property
    def same_as(self) -> tuple[str, str]:
        """Return a key: two matches with the same key report the same error."""
        return self.signature, self.fields.get("message", self.says)


@frozen
class ProcessExit:
    """The exit of one process as torchrun reports it. ``was_stopped``: torchrun stopped it. A negative code is a signal."""

    at: float
    host: str
    pid: int
    code: int
    local_rank: int | None = None
    rank: int | None = None
    was_stopped: bool = False
    named: bool = False  # torchrun calls it the first on its host
    file: str = ""
    line: int = 0


@frozen
class StackSnapshot:
    """Stack of one process, on request or at its exit. Frames are (file, line, function), innermost first.

    ``moved``: whether it changed between two samples, None for one sample. ``crash`` is faulthandler's text for a signal.
    ``way``: the reader of the stack (faulthandler in the process, py-spy from outside); ``untold``: why there is none;
    ``native``: the stack with native frames, if requested.
    """

    host: str
    rank: int | None
    pid: int
    state: str
    frames: tuple[tuple[str, int, str], ...] = ()
    wchan: str = ""
    moved: bool | None = None
    crash: str = ""
    way: str = ""
    untold: str = ""
    native: tuple[tuple[str, int, str], ...] = ()
    container: str = ""  # to which ``pid`` belongs


EndKind = Literal["ended", "stopped", "lost", "running"]


@frozen
class HostEnd:
    """The end of a host's script. ``stopped``: the launcher stopped it; ``last_contact``: time of the last contact.

    ``why`` is the reason that the host reports if the script did not end by itself.
    """

    host: str
    kind: EndKind
    at: float
    since: float = 0.0
    code: int | None = None
    signal: int | None = None
    oom: bool = False
    reason: ExitReason = "ended"
    why: str = ""
    silent_for: float = 0.0
    loss: LossReason | None = None  # of a lost host

    @property
    def has_lost_container(self) -> bool:
        return self.loss in ("container-ended", "container-missing")

    @property
    def has_failed(self) -> bool:
        return self.kind == "lost" or (self.kind == "ended" and self.code != 0)

    @property
    def lease_seconds(self) -> float:
        """Return the seconds without contact to the launcher if the lease ended the run, else 0."""
        return self.silent_for if self.kind == "ended" and self.reason == "lease-expired" else 0.0


@frozen
class Disconnection:
    """A time without contact to a host: its connection broke at ``begin`` and returned at ``end`` (None: not yet).

    ``why`` is the reason that the launcher logged, such as ``silent for 15 s``; ``silent_for`` are those seconds.
    """

    host: str
    begin: float
    end: float | None
    why: str = ""
    silent_for: float = 0.0

    @property
    def last_contact(self) -> float:
        """Return the time of the last contact. The launcher notices a silence only after some seconds."""
        return self.begin - self.silent_for


def describe_new_boot(before: str, now: str) -> str:
    """Return what two boot ids of one host show: a reboot, or a restart of its container."""
    is_container = find_restart(before, now) == "container"
    return "had its container restarted during the run" if is_container else "was rebooted during the run"


@frozen
class Evidence:
    """All evidence. ``ranks`` is host -> (node rank, processes or None); ``addresses`` is address or name -> host."""

    hosts: tuple[str, ...]
    ranks: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    gpus: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # host -> ids, in the order of its processes
    logged: Mapping[str, frozenset[int]] = field(default_factory=dict)  # host -> ranks whose lines its logs have
    sightings: tuple[LogMatch, ...] = ()
    deaths: tuple[ProcessExit, ...] = ()
    ends: Mapping[str, HostEnd] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    gaps: Mapping[str, float] = field(default_factory=dict)  # host -> seconds for which its connection was broken
    silences: tuple[Disconnection, ...] = ()
    rebooted: Mapping[str, str] = field(default_factory=dict)  # host -> what happened, by ``describe_new_boot``
    tails: tuple[StreamTail, ...] = ()
    away: float = 0.0  # longest time without any event in the launcher: stopped, killed, asleep
    stands: tuple[StackSnapshot, ...] = ()
    flights: tuple[FlightDump, ...] = ()  # dumps of flight recorders
    looked: frozenset[str] = frozenset()  # hosts that were searched for dumps
    notes: tuple[str, ...] = ()  # unusual facts about the hosts
    containers: Mapping[str, str] = field(default_factory=dict)  # host -> the container to which its pids belong
    error: float = 0.25
    live: bool = True  # False: times come from logs, and a fact that one file lacks may be in another

    def limit_to(self, moment: float) -> Evidence:
        """Return the evidence up to a moment. Stacks stay."""
        return replace(
            self,
            sightings=tuple(each for each in self.sightings if each.at <= moment),
            deaths=tuple(each for each in self.deaths if each.at <= moment),
            ends={host: end for host, end in self.ends.items() if end.at <= moment},
        )
