"""Who is measured with whom, and whom slow or broken pairs blame: a host, or the link between two. Pure.

A sum over all hosts goes at the pace of the slowest, so it cannot say which that is: pairs can. First pass: a
round-robin tournament (the circle method), every host with every other, the pairs of a round at the same time. Beyond
eight hosts the tournament is cut to the pairs that a ring over all hosts uses, and each host with the one opposite:
three partners a host. Second pass, and once more for whom it does not clear: whoever is under suspicion meets hosts
known to be good, first those that it has not met, and a slow link is measured again, with little else going on; the
best figure of a pair counts. Then

* a host none of whose pairs is good, although its partners have good ones, is to blame itself;
* a pair that is bad, although both its hosts have good ones, is to blame as a link.

*Bad* is a pair that could not add up at all, or one below half of what the middle host has in its best pair. The best
pair, because one slow host spoils a pair of every other; the middle of hosts, because one slow host of three spoils
two pairs of three. With two hosts there is one pair and nothing to compare it with.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

WHOLE = 8  # up to so many hosts everybody meets everybody
SLOW = 0.5
PARTNERS = 2  # known good hosts that a suspect meets in a second pass
CONFIRMATIONS = 2  # second passes at most: a busy moment must not name anybody

Pair: TypeAlias = tuple[str, str]
Round: TypeAlias = tuple[Pair, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A pair's bus bandwidth in bytes a second, over sums of ``size`` bytes; or why there is none, and at which stage."""

    bandwidth: float = 0.0
    size: int = 0
    error: str = ""
    stage: str = ""

    @property
    def works(self) -> bool:
        return self.bandwidth > 0 and not self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """One host, or the two ends of a link; the pairs that say so; whether it does not work at all or is slow."""

    hosts: tuple[str, ...]
    pairs: tuple[Pair, ...]
    broken: bool


def first_pass(names: Sequence[str]) -> tuple[Round, ...]:
    """Rounds of disjoint pairs, each pair in the order of ``names``."""
    return tournament(names) if len(names) <= WHOLE else rounds(_around(names))


def tournament(names: Sequence[str]) -> tuple[Round, ...]:
    """Everybody with everybody by the circle method: one name stays, the others move on; of an odd number one rests."""
    seats: list[str] = [*names, *([""] if len(names) % 2 else [])]
    half = len(seats) // 2
    made: list[Round] = []
    for _ in range(len(seats) - 1):
        opposite = zip(seats[:half], reversed(seats[half:]), strict=True)
        made.append(tuple(_ordered(names, *pair) for pair in opposite if "" not in pair))
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return tuple(made)


def _ordered(names: Sequence[str], one: str, other: str) -> Pair:
    return (one, other) if names.index(one) < names.index(other) else (other, one)


def _around(names: Sequence[str]) -> list[Pair]:
    """The neighbours in the ring, then each with the one opposite."""
    count = len(names)
    evens = [(names[at], names[at + 1]) for at in range(0, count - 1, 2)]
    odds = [(names[at], names[at + 1]) for at in range(1, count - 1, 2)]
    return [*evens, *odds, (names[0], names[-1]), *((names[at], names[at + count // 2]) for at in range(count // 2))]


def rounds(pairs: Iterable[Pair]) -> tuple[Round, ...]:
    """The pairs in as few rounds as taking the first that fits gives; nobody is in two pairs of a round."""
    made: list[list[Pair]] = []
    for pair in dict.fromkeys(pairs):
        fitting = (found for found in made if not {name for met in found for name in met} & set(pair))
        place = next(fitting, None)
        if place is None:
            made.append([pair])
        else:
            place.append(pair)
    return tuple(tuple(found) for found in made)


def usual(measured: Mapping[Pair, Measured]) -> float:
    """What the middle host has in its best pair; 0 where no pair works."""
    best = best_of_hosts(measured)
    return statistics.median_high(best.values()) if best else 0.0


def best_of_hosts(measured: Mapping[Pair, Measured]) -> dict[str, float]:
    """host -> the bandwidth of its best pair, for hosts of which any pair works."""
    best: dict[str, float] = {}
    for pair, found in measured.items():
        for name in pair if found.works else ():
            best[name] = max(found.bandwidth, best.get(name, 0.0))
    return best


def bad(measured: Mapping[Pair, Measured]) -> set[Pair]:
    """The pairs that do not work, or not half as fast as usual."""
    least = SLOW * usual(measured)
    return {pair for pair, found in measured.items() if not found.works or found.bandwidth < least}


def known_good(measured: Mapping[Pair, Measured]) -> set[str]:
    """Hosts that have a good pair: what is bad about their other pairs is not theirs alone."""
    spoiled = bad(measured)
    return {name for pair in measured if pair not in spoiled for name in pair}


def second_pass(names: Sequence[str], measured: Mapping[Pair, Measured]) -> tuple[Round, ...]:
    """Suspects with known good hosts, fresh ones first, and slow links again; nothing where all is well."""
    order = {name: at for at, name in enumerate(names)}
    spoiled, good = bad(measured), known_good(measured)
    wanted: list[Pair] = []
    for name in names:
        mine = [pair for pair in spoiled if name in pair]
        if name in good or not mine:
            continue
        if len(mine) > 1 and all(measured[pair].error for pair in mine):
            continue  # it works with nobody: time would not change that
        met = {other for pair in measured if name in pair for other in pair}
        partners = sorted(good, key=lambda other: (other in met, order[other]))[:PARTNERS]
        wanted += [_ordered(names, name, other) for other in partners]
    wanted += sorted(pair for pair in spoiled if set(pair) <= good and not measured[pair].error)
    return rounds(wanted)


def merged(measured: Mapping[Pair, Measured], again: Mapping[Pair, Measured]) -> dict[Pair, Measured]:
    """Both passes; of a pair that was measured twice the better figure."""
    both = dict(measured)
    for pair, found in again.items():
        if pair not in both or found.bandwidth > both[pair].bandwidth:
            both[pair] = found
    return both


def blamed(names: Sequence[str], measured: Mapping[Pair, Measured]) -> tuple[Blame, ...]:
    """Hosts first, then links; together they explain every bad pair."""
    spoiled, good = bad(measured), known_good(measured)
    found = []
    explained: set[Pair] = set()
    for name in names:
        mine = tuple(pair for pair in measured if name in pair)
        witnesses = [pair for pair in mine if set(pair) - {name} <= good]
        if name not in good and witnesses:
            found.append(Blame(hosts=(name,), pairs=mine, broken=not any(measured[pair].works for pair in mine)))
            explained |= set(mine)
    for pair in measured:
        if pair in spoiled - explained:
            found.append(Blame(hosts=pair, pairs=(pair,), broken=not measured[pair].works))
    return tuple(found)
