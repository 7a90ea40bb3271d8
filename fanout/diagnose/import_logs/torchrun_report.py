"""Parser of torchrun's failure reports: which host had which ranks and processes.

It attributes the lines of a file that mixes the unlabelled console output of several hosts. A line has the prefix of
a rank, names a process, or comes from a torchrun with known ranks or processes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from fanout.logs import glog

_HOST = re.compile(r"^\s+host\s+: (\S+)")
_RANK = re.compile(r"^\s+rank\s+: (\d{1,9}) \(local_rank: (\d{1,9})\)")
_PID = re.compile(r"^\s+exitcode\s+: -?\d+ \(pid: (\d{1,9})\)")
_MARK = re.compile(r"^(?:\[[a-z]+\d+\]:)?\[rank(\d{1,9})\]:")
_NAMED = re.compile(r"(?:\(pid: |Sending process )(\d{1,9})")
_TORCHRUN = re.compile(rf"^{glog.HEAD} +(\d{{1,9}}) torch/")


@dataclass(slots=True)
class FailureReport:
    """One failure report, from the line of dashes above it to the line below it."""

    first: int
    last: int = 0
    host: str = ""
    ranks: dict[int, int] = field(default_factory=dict)  # global -> local
    pids: set[int] = field(default_factory=set)


@dataclass(slots=True)
class FailureReports:
    """All failure reports of one file (or of one label in it), and the ranks that wrote to it."""

    blocks: list[FailureReport] = field(default_factory=list)
    spoke: set[int] = field(default_factory=set)
    agents: dict[int, set[int]] = field(default_factory=dict)  # pid of a torchrun -> pids that it names
    _rule: int = -1
    _rank: tuple[int, int] | None = None

    def add_line(self, text: str, number: int, count: int) -> None:
        """Add a line. ``number`` is its number in the file, ``count`` its number among lines with the same label."""
        if text.startswith("====="):
            if self.blocks and not self.blocks[-1].last:
                self.blocks[-1].last = number
            self._rule = count
        elif count == self._rule + 1 and text.rstrip().endswith(" FAILED"):
            self.blocks.append(FailureReport(first=number - 1))
        elif self.blocks and not self.blocks[-1].last:
            self._parse_inside(self.blocks[-1], text)
        elif mark := _MARK.match(text):
            self.spoke.add(int(mark[1]))
        elif (agent := _TORCHRUN.match(text)) and (named := _NAMED.search(text)):
            self.agents.setdefault(int(agent[1]), set()).add(int(named[1]))

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(block.host for block in self.blocks if block.host))

    def _parse_inside(self, block: FailureReport, text: str) -> None:
        if host := _HOST.match(text):
            block.host = host[1]
        elif rank := _RANK.match(text):
            block.ranks[int(rank[1])] = int(rank[2])
        elif pid := _PID.match(text):
            block.pids.add(int(pid[1]))


class LineAttribution:
    """Attribution of the lines of a file with the reports of several hosts."""

    def __init__(self, register: FailureReports, ranks: Mapping[int, str]) -> None:
        """Take the reports and ``ranks``, the host of each rank as far as known from all files."""
        self._ranks = ranks
        self._blocks = {n: block.host for block in register.blocks for n in range(block.first, block.last + 1)}
        self._pids = {pid: block.host for block in register.blocks for pid in block.pids}
        self._agents = {
            agent: self._pids[pid] for agent, pids in register.agents.items() for pid in pids if pid in self._pids
        }
        self._default = register.hosts[0]

    def __call__(self, text: str, number: int) -> str:
        if number in self._blocks:
            return self._blocks[number]
        if mark := _MARK.match(text):
            return self._ranks.get(int(mark[1]), self._default)
        if agent := _TORCHRUN.match(text):
            return self._agents.get(int(agent[1]), self._default)
        return self._default


def map_ranks_to_hosts(registers: Iterable[tuple[FailureReports, str]]) -> dict[int, str]:
    """Return rank -> host, also for ranks that no report names, if all hosts have equally many ranks.

    ``str`` is the host of the whole register, "" if it covers several hosts.
    """
    bases: dict[int, str] = {}
    known: dict[int, str] = {}
    for register, whole in registers:
        for block in register.blocks:
            for rank, local in block.ranks.items():
                known[rank] = bases[rank - local] = whole or block.host
    starts = sorted(bases)
    each = min((end - start for start, end in pairwise(starts)), default=1)
    for start in starts:
        for rank in range(start, start + min(each, 64)):
            known.setdefault(rank, bases[start])
    return known
