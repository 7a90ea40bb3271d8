"""Pair measurements: the schedule of the pairs, and the host or link that slow or broken pairs point to. Pure.

An all-reduce over all hosts runs at the speed of the slowest host, so it cannot show which host is slow. Pairs can.
First pass: a round-robin tournament (the circle method), all pairs of a round at the same time. Beyond eight hosts,
only the pairs of a ring over all hosts, and each host with the opposite one: three partners per host. Second pass, at
most twice: each suspected host is paired with known good hosts, first with those that it has not met, and each slow
link is measured again, with little other traffic. The best value of a pair counts. Then

* a host without a good pair, although its partners have good ones, is at fault;
* a pair that is bad, although both hosts have good pairs, is at fault as a link.

A pair is *bad* if its all-reduce fails, or if its bandwidth is below half of the median over hosts of each host's best
pair. The best pair, because one slow host slows one pair of every other host. The median over hosts, because one slow
host of three slows two pairs of three. With two hosts there is one pair, and nothing to compare it with.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from fanout.model.frozen import frozen

WHOLE = 8  # up to this number of hosts, every host is paired with every other
SLOW = 0.5
PARTNERS = 2  # known good hosts that a suspected host is paired with in a second pass
CONFIRMATIONS = 2  # second passes at most, so that a busy moment does not name a host

Pair: TypeAlias = tuple[str, str]
Round: TypeAlias = tuple[Pair, ...]


@frozen
class PairMeasurement:
    """Bus bandwidth of a pair in bytes per second, for all-reduces of ``size`` bytes; or the error and its stage."""

    bandwidth: float = 0.0
    size: int = 0
    error: str = ""
    stage: str = ""

    @property
    def is_working(self) -> bool:
        return self.bandwidth > 0 and not self.error


@frozen
class PairFault:
    """Fault of one host, or of the link between two; ``pairs`` show it; ``broken`` if none works, else it is slow."""

    hosts: tuple[str, ...]
    pairs: tuple[Pair, ...]
    broken: bool


def schedule_first_pass(names: Sequence[str]) -> tuple[Round, ...]:
    """Return rounds of disjoint pairs, each pair in the order of ``names``."""
    return schedule_tournament(names) if len(names) <= WHOLE else distribute_over_rounds(_list_ring_pairs(names))


def schedule_tournament(names: Sequence[str]) -> tuple[Round, ...]:
    """Return rounds that pair every host with every other, by the circle method: one name stays, the others rotate."""
    players: list[str] = [*names, *([""] if len(names) % 2 else [])]
    half = len(players) // 2
    made: list[Round] = []
    for _ in range(len(players) - 1):
        opposite = zip(players[:half], reversed(players[half:]), strict=True)
        made.append(tuple(_order_pair(names, *pair) for pair in opposite if "" not in pair))
        players = [players[0], players[-1], *players[1:-1]]
    return tuple(made)


def _order_pair(names: Sequence[str], one: str, other: str) -> Pair:
    return (one, other) if names.index(one) < names.index(other) else (other, one)


def _list_ring_pairs(names: Sequence[str]) -> list[Pair]:
    """Return the pairs of neighbours in a ring, then of opposite hosts."""
    count = len(names)
    evens = [(names[at], names[at + 1]) for at in range(0, count - 1, 2)]
    odds = [(names[at], names[at + 1]) for at in range(1, count - 1, 2)]
    return [*evens, *odds, (names[0], names[-1]), *((names[at], names[at + count // 2]) for at in range(count // 2))]


def distribute_over_rounds(pairs: Iterable[Pair]) -> tuple[Round, ...]:
    """Distribute pairs over rounds, each into the first round that has neither of its hosts."""
    made: list[list[Pair]] = []
    for pair in dict.fromkeys(pairs):
        fitting = (found for found in made if not {name for met in found for name in met} & set(pair))
        place = next(fitting, None)
        if place is None:
            made.append([pair])
        else:
            place.append(pair)
    return tuple(tuple(found) for found in made)


def compute_usual_bandwidth(measured: Mapping[Pair, PairMeasurement]) -> float:
    """Return the median over hosts of each host's best pair, in bytes per second; 0 if no pair works."""
    best = find_best_bandwidths(measured)
    return statistics.median_high(best.values()) if best else 0.0


def find_best_bandwidths(measured: Mapping[Pair, PairMeasurement]) -> dict[str, float]:
    """Return host -> the bandwidth of its best pair, for hosts with at least one working pair."""
    best: dict[str, float] = {}
    for pair, found in measured.items():
        for name in pair if found.is_working else ():
            best[name] = max(found.bandwidth, best.get(name, 0.0))
    return best


def find_bad_pairs(measured: Mapping[Pair, PairMeasurement]) -> set[Pair]:
    """Return the pairs that do not work, or that have less than half of the usual bandwidth."""
    least = SLOW * compute_usual_bandwidth(measured)
    return {pair for pair, found in measured.items() if not found.is_working or found.bandwidth < least}


def find_good_hosts(measured: Mapping[Pair, PairMeasurement]) -> set[str]:
    """Return the hosts with a good pair."""
    spoiled = find_bad_pairs(measured)
    return {name for pair in measured if pair not in spoiled for name in pair}


def schedule_second_pass(names: Sequence[str], measured: Mapping[Pair, PairMeasurement]) -> tuple[Round, ...]:
    """Return rounds that pair suspected with known good hosts, new partners first, and repeat slow links."""
    order = {name: at for at, name in enumerate(names)}
    spoiled, good = find_bad_pairs(measured), find_good_hosts(measured)
    wanted: list[Pair] = []
    for name in names:
        mine = [pair for pair in spoiled if name in pair]
        if name in good or not mine:
            continue
        if len(mine) > 1 and all(measured[pair].error for pair in mine):
            continue  # it works with no host, so another measurement would not help
        met = {other for pair in measured if name in pair for other in pair}
        partners = sorted(good, key=lambda other: (other in met, order[other]))[:PARTNERS]
        wanted += [_order_pair(names, name, other) for other in partners]
    wanted += sorted(pair for pair in spoiled if set(pair) <= good and not measured[pair].error)
    return distribute_over_rounds(wanted)


def merge_passes(
    measured: Mapping[Pair, PairMeasurement], again: Mapping[Pair, PairMeasurement]
) -> dict[Pair, PairMeasurement]:
    """Merge two passes; keep the better value of a pair that was measured twice."""
    both = dict(measured)
    for pair, found in again.items():
        if pair not in both or found.bandwidth > both[pair].bandwidth:
            both[pair] = found
    return both


def find_faults(names: Sequence[str], measured: Mapping[Pair, PairMeasurement]) -> tuple[PairFault, ...]:
    """Return the faults, hosts first, then links; together they explain every bad pair."""
    spoiled, good = find_bad_pairs(measured), find_good_hosts(measured)
    found = []
    explained: set[Pair] = set()
    for name in names:
        mine = tuple(pair for pair in measured if name in pair)
        witnesses = [pair for pair in mine if set(pair) - {name} <= good]
        if name not in good and witnesses:
            found.append(
                PairFault(hosts=(name,), pairs=mine, broken=not any(measured[pair].is_working for pair in mine))
            )
            explained |= set(mine)
    for pair in measured:
        if pair in spoiled - explained:
            found.append(PairFault(hosts=pair, pairs=(pair,), broken=not measured[pair].is_working))
    return tuple(found)
