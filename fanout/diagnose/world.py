"""The ranks of each host: from the plan of the run, from torchrun's reports, or from the lines of other launchers' logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from fanout.diagnose.evidence import Evidence
from fanout.model.frozen import frozen


@frozen
class World:
    """The ranks of each host, as far as they are known."""

    ranks: dict[str, range] = field(default_factory=dict)

    def find_host(self, rank: int) -> str | None:
        return next((host for host, ranks in self.ranks.items() if rank in ranks), None)

    def has_all(self, hosts: Sequence[str]) -> bool:
        return all(host in self.ranks for host in hosts)

    def all_ranks(self) -> dict[int, str]:
        return {rank: host for host, ranks in self.ranks.items() for rank in ranks}


def plan_ranks(nodes: Mapping[str, tuple[int, int | None]]) -> dict[str, range]:
    """Return host -> ranks from node rank and process count, up to the first host with an unknown count."""
    ranks: dict[str, range] = {}
    begin = 0
    for host in sorted(nodes, key=lambda host: nodes[host][0]):
        count = nodes[host][1]
        if count is None:
            break
        ranks[host] = range(begin, begin + count)
        begin += count
    return ranks


def build_world(evidence: Evidence) -> World:
    """Build the world from the plan, else from torchrun's reports, which list all processes of a host."""
    ranks = plan_ranks(evidence.ranks)
    for host in evidence.hosts:
        if host not in ranks:
            mine = [d for d in evidence.deaths if d.host == host and d.rank is not None and d.local_rank is not None]
            said = {each.rank for each in evidence.sightings if each.host == host and each.rank is not None}
            known = {d.rank for d in mine if d.rank is not None} | said
            if mine:
                base = min((d.rank or 0) - (d.local_rank or 0) for d in mine)
                ranks[host] = range(base, max(known) + 1)
    return World(ranks=ranks if evidence.live else add_equal_blocks(ranks, evidence))


def add_equal_blocks(ranks: dict[str, range], evidence: Evidence) -> dict[str, range]:
    """Return the ranks of all hosts, if the known ones show that every host has equally many, in the order of the hosts.

    Only logs of other launchers need this: their hosts without a report of torchrun have no known ranks.
    """
    logged = {host: set(evidence.logged.get(host, ())) | {*ranks.get(host, ())} for host in evidence.hosts}
    for each in evidence.sightings:
        if each.rank is not None and each.host in logged:
            logged[each.host].add(each.rank)
    for order in (evidence.hosts, sorted(evidence.hosts, key=lambda host: min(logged[host], default=-1))):
        count = _count_ranks([logged[host] for host in order], [ranks.get(host) for host in order])
        if count:
            return {host: range(number * count, (number + 1) * count) for number, host in enumerate(order)}
    return ranks


def _count_ranks(logged: Sequence[set[int]], known: Sequence[range | None]) -> int:
    """Return the number of ranks per host, if only one number is possible; else 0.

    Host number k has the ranks from k times this number on. ``known`` are the ranks that torchrun's reports list.
    """
    least = max((max(ranks) // (number + 1) + 1 for number, ranks in enumerate(logged) if ranks), default=0)
    most = min((min(ranks) // number for number, ranks in enumerate(logged) if ranks and number), default=0)
    starts = {found.start / number for number, found in enumerate(known) if found is not None and number}
    if len(starts) == 1 and least <= (start := starts.pop()) <= most and start == int(start):
        return int(start)
    if len(logged) == 1:
        return least if 0 in logged[0] and least > 1 else 0
    return least if least == most else 0
