"""Rank groups: finds hosts whose ranks form a group of their own, from the ranks that each host reported. Pure."""

from __future__ import annotations

import re

from fanout.model.state import HostState, RunState

_RANK = re.compile(r"rank (\d+)")


def find_separate_groups(state: RunState) -> tuple[str, ...]:
    """Return the hosts, two or more, that all had the same ranks; () if the ranks differ or a host reported none.

    A group of all hosts gives every rank to one host only. A helper that each host starts for itself, before the
    training, does not count: the ranks of the training differ. Ranks that print nothing count too.
    """
    ranks = {host.name: _list_ranks(host) for host in state.all_hosts}
    is_same = len(ranks) > 1 and len(set(ranks.values())) == 1 and all(0 in each for each in ranks.values())
    return tuple(ranks) if is_same else ()


def _list_ranks(host: HostState) -> frozenset[int]:
    """Return the ranks whose processes were seen, or that have a stream."""
    named = (int(found[1]) for found in map(_RANK.match, host.streams.values()) if found)
    return frozenset((*host.ranks_seen, *named))
