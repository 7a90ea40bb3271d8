"""Rank groups: finds hosts whose ranks trained as a group of their own, from the ranks that each host announced. Pure."""

from __future__ import annotations

import re

from fanout.model.state import RunState

_RANK = re.compile(r"rank (\d+)")


def find_separate_groups(state: RunState) -> tuple[str, ...]:
    """Return the hosts, two or more, that all had the same ranks; () if the ranks differ or a host announced none.

    A group of all hosts gives every rank to one host only. A helper that each host starts for itself, before the
    training, does not count: the ranks of the training differ.
    """
    ranks = {host.name: _read_ranks(tuple(host.streams.values())) for host in state.all_hosts}
    is_same = len(ranks) > 1 and len(set(ranks.values())) == 1 and all(0 in each for each in ranks.values())
    return tuple(ranks) if is_same else ()


def _read_ranks(names: tuple[str, ...]) -> frozenset[int]:
    return frozenset(int(found[1]) for found in map(_RANK.match, names) if found)
