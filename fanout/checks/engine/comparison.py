"""Comparison of hosts: groups of equal values, outliers, medians of the others, and their text. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Generic, TypeVar

from fanout.model.frozen import frozen
from fanout.model.hosts import fold_names

Value = TypeVar("Value")


def group_hosts_by_value(values: Mapping[str, Value]) -> list[tuple[Value, tuple[str, ...]]]:
    """Return the distinct values with their hosts, most common first; on a tie, the value of the lower rank first."""
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


@frozen
class OutlierGroup(Generic[Value]):
    """Hosts with a ``value`` that differs from the ``usual`` one, which the ``others`` have."""

    hosts: tuple[str, ...]
    value: Value
    others: tuple[str, ...]
    usual: Value

    def format_difference(self, shown: Callable[[Value], object] = str) -> str:
        """Return both values as text: ``535.1; gpu[01-03] have 580.95``."""
        return f"{shown(self.value)}; {format_have(self.others)} {shown(self.usual)}"


def find_outlier_groups(values: Mapping[str, Value]) -> Iterator[OutlierGroup[Value]]:
    """Yield the hosts without the most common value, grouped by value."""
    groups = group_hosts_by_value(values)
    for value, hosts in groups[1:]:
        yield OutlierGroup(hosts=hosts, value=value, others=groups[0][1], usual=groups[0][0])


def find_differing_keys(here: Mapping[str, object], there: Mapping[str, object]) -> list[str]:
    """Return the keys whose values differ between two hosts, those of ``here`` first."""
    return [key for key in {**here, **there} if here.get(key) != there.get(key)]


def compute_medians_of_others(values: Mapping[str, float]) -> dict[str, float]:
    """Return host -> the median of all other hosts; empty if there is only one host."""
    return {host: median(other for name, other in values.items() if name != host) for host in values if len(values) > 1}


def format_have(hosts: tuple[str, ...]) -> str:
    """Return the hosts with the verb: ``gpu[01-03] have``, ``gpu01 has``."""
    return f"{fold_names(hosts)} {'has' if len(hosts) == 1 else 'have'}"


def parse_version(version: object, count: int = 2) -> tuple[int, ...]:
    """Return the first ``count`` numbers of a version such as ``2.9.1+cu128``; () if the text is no version."""
    parts = str(version or "").split(".")[:count]
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else ()


def find_nccl_version(packages: Mapping[str, str]) -> str:
    """Return the version of the NCCL package beside torch; "" if there is none."""
    return next((version for name, version in packages.items() if name.startswith("nvidia-nccl-")), "")
