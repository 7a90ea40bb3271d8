"""Hosts against each other: who agrees, who is the odd one out, and how to say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from fanout.hosts import fold

Value = TypeVar("Value")


def grouped(values: Mapping[str, Value]) -> list[tuple[Value, tuple[str, ...]]]:
    """The distinct values with their hosts, commonest first; on a tie the one that rank 0's side holds."""
    groups: list[tuple[Value, list[str]]] = []
    for host, value in values.items():
        for known, hosts in groups:
            if known == value:
                hosts.append(host)
                break
        else:
            groups.append((value, [host]))
    groups.sort(key=lambda group: -len(group[1]))
    return [(value, tuple(hosts)) for value, hosts in groups]


def outliers(values: Mapping[str, Value]) -> Iterator[tuple[tuple[str, ...], Value, tuple[str, ...], Value]]:
    """(odd hosts, their value, the other hosts, their value) for every value that is not the commonest."""
    groups = grouped(values)
    for value, hosts in groups[1:]:
        yield hosts, value, groups[0][1], groups[0][0]


def have(hosts: tuple[str, ...]) -> str:
    """``gpu[01-03] have``, ``gpu01 has``."""
    return f"{fold(hosts)} {'has' if len(hosts) == 1 else 'have'}"


def size(count: float) -> str:
    """``1.2T``, ``980G``, ``512M``."""
    for unit in ("", "K", "M", "G", "T"):
        if abs(count) < 1000 or unit == "T":
            return f"{count:.0f}{unit}" if count >= 10 or not unit else f"{count:.1f}{unit}"
        count /= 1024
    raise AssertionError("not reached")


def age(seconds: float | None) -> str:
    """``3 d 02 h``, ``2 h 05 m``, ``40 s``; "" where nobody knows."""
    if seconds is None:
        return ""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return f"{days} d {hours % 24:02d} h"
    if hours:
        return f"{hours} h {minutes % 60:02d} m"
    return f"{minutes} m" if minutes else f"{int(seconds)} s"
