"""Roster: choose the hosts of the next attempt, in node-rank order.

A spare takes the node rank of the host that it replaces. If no spare is left, a host that came back fills the place. Else
the run continues with fewer hosts, if the user allows it; the node ranks close up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fanout.model.frozen import frozen
from fanout.recovery.attempt import Fleet


@frozen
class Roster:
    """Hosts of an attempt in node-rank order, and how they differ from the attempt before."""

    hosts: tuple[str, ...]
    replaced: tuple[tuple[str, str], ...] = ()  # (old, new)
    dropped: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


def choose_hosts(
    hosts: Iterable[str],
    removed: Collection[str],
    fleet: Fleet,
    *,
    size: int,
    min_hosts: int | None = None,
    keep: Collection[str] = (),
) -> Roster | None:
    """Return the hosts of the next attempt, or None if there are too few.

    ``size`` is the number of hosts of the first attempt: hosts that came back fill a smaller roster up to it. Hosts in
    ``keep`` are removed only if a spare can take their place.
    """
    members = tuple(hosts)
    free = [name for name in (*fleet.spares, *fleet.returned) if name not in members and name not in removed]
    chosen: list[str] = []
    replaced: list[tuple[str, str]] = []
    dropped: list[str] = []
    must_leave = [name for name in members if name in removed and name not in keep]
    reserve = len(free) - len(must_leave)  # a host that may stay never takes the spare of a host that must leave
    for name in members:
        if name not in removed:
            chosen.append(name)
        elif free and (name not in keep or reserve > 0):
            reserve -= name in keep
            chosen.append(free.pop(0))
            replaced.append((name, chosen[-1]))
        elif name in keep:
            chosen.append(name)
        else:
            dropped.append(name)
    added = free[: max(0, size - len(chosen))]
    chosen += added
    if not chosen or (len(chosen) < size and (min_hosts is None or len(chosen) < min_hosts)):
        return None
    return Roster(hosts=tuple(chosen), replaced=tuple(replaced), dropped=tuple(dropped), added=tuple(added))
