"""Pairs: every host meets every other, at most one at a time; the figures then name the faulty host or link."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from fanout.checks.deep.pairwise import (
    CONFIRMATIONS,
    WHOLE,
    Pair,
    PairMeasurement,
    find_faults,
    merge_passes,
    schedule_first_pass,
    schedule_second_pass,
    schedule_tournament,
)

Figure = Callable[[Pair], PairMeasurement]


def list_hosts(count: int) -> list[str]:
    return [f"h{number}" for number in range(1, count + 1)]


def blame_of(names: list[str], figure: Figure) -> list[tuple[str, ...]]:
    """Return the blame after all passes of the torch test over invented figures."""
    found = {pair: figure(pair) for met in schedule_first_pass(names) for pair in met}
    for _ in range(CONFIRMATIONS):
        found = merge_passes(found, {pair: figure(pair) for met in schedule_second_pass(names, found) for pair in met})
    return [blame.hosts for blame in find_faults(names, found)]


def draw_figure(data: st.DataObject, slow: Callable[[Pair], bool]) -> Figure:
    """Draw about 1 GB/s, 20 % more or less; a tenth of it for ``slow`` pairs."""

    def draw_pair(pair: Pair) -> PairMeasurement:
        noise = data.draw(st.floats(0.8, 1.2))
        return PairMeasurement(bandwidth=noise * (1e8 if slow(pair) else 1e9), size=1 << 24)

    return draw_pair


@given(st.integers(2, 40))
def test_pair_schedule_uses_each_host_once_a_round_and_each_pair_once(count: int) -> None:
    rounds = schedule_first_pass(list_hosts(count))
    for met in rounds:
        names = [name for pair in met for name in pair]
        assert len(names) == len(set(names))
    pairs = [pair for met in rounds for pair in met]
    assert len(pairs) == len(set(pairs))
    assert all(int(one[1:]) < int(other[1:]) for one, other in pairs)


@given(st.integers(2, 12))
def test_a_tournament_pairs_all_hosts_in_the_fewest_possible_rounds(count: int) -> None:
    rounds = schedule_tournament(list_hosts(count))
    assert sum(map(len, rounds)) == count * (count - 1) // 2
    assert len(rounds) == (count if count % 2 else count - 1)


@given(st.integers(WHOLE + 1, 60))
def test_many_hosts_meet_their_neighbours_in_the_ring_and_the_host_opposite(count: int) -> None:
    """Every link of the ring is measured; the number of rounds does not grow with the number of hosts."""
    rounds = schedule_first_pass(names := list_hosts(count))
    pairs = {frozenset(pair) for met in rounds for pair in met}
    assert {frozenset((names[at], names[(at + 1) % count])) for at in range(count)} <= pairs
    assert len(rounds) <= 5


@given(st.integers(3, 20), st.data())
def test_one_slow_host_is_always_named_and_no_other(count: int, data: st.DataObject) -> None:
    names = list_hosts(count)
    guilty = data.draw(st.sampled_from(names))
    assert blame_of(names, draw_figure(data, lambda pair: guilty in pair)) == [(guilty,)]


@given(st.integers(3, 20), st.data())
def test_one_slow_link_is_named_as_a_link(count: int, data: st.DataObject) -> None:
    names = list_hosts(count)
    link = data.draw(st.sampled_from([pair for met in schedule_first_pass(names) for pair in met]))
    assert blame_of(names, draw_figure(data, lambda pair: pair == link)) == [link]


@given(st.integers(2, 20), st.data())
def test_equal_hosts_have_no_finding(count: int, data: st.DataObject) -> None:
    assert blame_of(list_hosts(count), draw_figure(data, lambda pair: False)) == []


@given(st.integers(5, 20), st.data())
def test_two_slow_hosts_are_both_named(count: int, data: st.DataObject) -> None:
    """This holds also if they were partners in a pair."""
    names = list_hosts(count)
    guilty = data.draw(st.sets(st.sampled_from(names), min_size=2, max_size=2))
    found = blame_of(names, draw_figure(data, lambda pair: bool(guilty & set(pair))))
    assert sorted(found) == sorted((name,) for name in guilty)


def test_a_busy_moment_has_no_finding() -> None:
    """A slow pair is measured again, and the better figure counts."""
    seen: set[Pair] = set()

    def measure_pair(pair: Pair) -> PairMeasurement:
        slow = "h2" in pair and pair not in seen
        seen.add(pair)
        return PairMeasurement(bandwidth=1e8 if slow else 1e9, size=1 << 24)

    assert blame_of(list_hosts(4), measure_pair) == []


def test_isolated_host_is_named_without_a_retry() -> None:
    """A pair that hangs would cost its timeout each time."""
    names = list_hosts(4)
    found = {
        pair: PairMeasurement(error="no", stage="group")
        if "h3" in pair
        else PairMeasurement(bandwidth=1e9, size=1 << 24)
        for met in schedule_first_pass(names)
        for pair in met
    }
    assert schedule_second_pass(names, found) == ()
    (blame,) = find_faults(names, found)
    assert (blame.hosts, blame.broken, len(blame.pairs)) == (("h3",), True, 3)


def test_failing_pair_of_two_hosts_names_both() -> None:
    (blame,) = find_faults(list_hosts(2), {("h1", "h2"): PairMeasurement(error="no", stage="group")})
    assert (blame.hosts, blame.broken) == (("h1", "h2"), True)
