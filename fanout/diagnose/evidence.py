"""What is known of a failed run, before anybody judges: values only.

Times are seconds of one clock; ``Evidence.error`` says by how much two hosts may differ on it. Ranks are global; None
where the line does not tell (ranks that share one stream).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from fanout.agent.frames import LEASE_OVER
from fanout.diagnose.dumps import Flight
from fanout.diagnose.lastlines import Tail
from fanout.diagnose.signatures import Kind, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A line that a signature knows. ``traceback`` is what it is the last line of."""

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
    reported: bool = False  # torchrun quoted it, some seconds after it was said

    @property
    def same_as(self) -> tuple[str, str]:
        """Two sightings with the same value say the same."""
        return self.signature, self.fields.get("message", self.says)


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """The end of one process as torchrun reports it; ``told``: torchrun itself had ended it; negative: a signal."""

    at: float
    host: str
    pid: int
    code: int
    local_rank: int | None = None
    rank: int | None = None
    told: bool = False
    named: bool = False  # torchrun calls it the first on its host
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """Where one process stood when it was asked, or ended: frames are (file, line, function), innermost first.

    ``moved``: did it between two looks; None where there was only one. ``crash`` is faulthandler's word for a signal.
    ``way``: who told the stack (faulthandler in the process, py-spy from outside); ``untold``: why nobody could;
    ``native``: the stack with frames that are not Python's, where they were asked for.
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


_LEASE = re.compile(r"for (?P<seconds>\d+(?:\.\d+)?) s: " + LEASE_OVER + r"\Z")

EndKind = Literal["ended", "stopped", "lost", "running"]


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a host's script ended. ``stopped``: the launcher had told it to; ``since``: when it was last heard of; ``why``:
    what the host itself says of it, where the script did not end by itself."""

    host: str
    kind: EndKind
    at: float
    since: float = 0.0
    code: int | None = None
    signal: int | None = None
    oom: bool = False
    why: str = ""

    @property
    def failed(self) -> bool:
        return self.kind == "lost" or (self.kind == "ended" and self.code != 0)

    @property
    def lease(self) -> float:
        """For so many seconds it had heard of no launcher, and ended for that; 0 where that was not why."""
        found = _LEASE.search(self.why) if self.kind == "ended" else None
        return float(found["seconds"]) if found else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A time for which a host was not heard of: its link broke at ``begin`` and was back at ``end`` (None: it is not).

    ``why`` is what the launcher saw, such as ``silent for 15 s``.
    """

    host: str
    begin: float
    end: float | None
    why: str = ""

    @property
    def since(self) -> float:
        """Return when the host was last heard of: a silence is noticed only after some seconds."""
        noticed = _SILENT.search(self.why)
        return self.begin - (float(noticed["seconds"]) if noticed else 0.0)


_SILENT = re.compile(r"silent for (?P<seconds>\d{1,6}(?:\.\d{1,3})?) s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All of it. ``ranks`` is host -> (node rank, processes or None); ``addresses`` is address or name -> host."""

    hosts: tuple[str, ...]
    ranks: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    gpus: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # host -> ids, in the order of its processes
    sightings: tuple[Sighting, ...] = ()
    deaths: tuple[Death, ...] = ()
    ends: Mapping[str, End] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    gaps: Mapping[str, float] = field(default_factory=dict)  # host -> seconds for which its link was broken
    silences: tuple[Silence, ...] = ()
    rebooted: Mapping[str, float] = field(default_factory=dict)  # host -> when it was heard of again
    tails: tuple[Tail, ...] = ()
    away: float = 0.0  # the longest time for which the launcher itself saw nothing: stopped, killed, asleep
    stands: tuple[Stand, ...] = ()
    flights: tuple[Flight, ...] = ()  # dumps of flight recorders
    looked: frozenset[str] = frozenset()  # hosts where dumps were looked for
    notes: tuple[str, ...] = ()  # what is worth telling of the hosts themselves
    error: float = 0.25
    live: bool = True  # False: times were read from logs, and what a file does not say may stand in another

    def until(self, moment: float) -> Evidence:
        """Return what was known at a moment: what came later is no part of it. Looks at stacks stay."""
        return replace(
            self,
            sightings=tuple(each for each in self.sightings if each.at <= moment),
            deaths=tuple(each for each in self.deaths if each.at <= moment),
            ends={host: end for host, end in self.ends.items() if end.at <= moment},
        )
