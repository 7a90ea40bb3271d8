"""Directory groups: which hosts have one directory in common, so that it is written once. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fanout.model.frozen import frozen


@frozen
class DirectoryGroup:
    """Hosts with one directory. The first host receives the files; if it ``is_source``, none does."""

    hosts: tuple[str, ...]
    is_source: bool = False


def group_hosts(seen: Mapping[str, Sequence[str]], own: frozenset[str]) -> list[DirectoryGroup]:
    """Return the groups, in the order of their first hosts.

    ``seen``: host -> the hosts whose tokens it sees. ``own``: hosts whose tokens are in the directory that is sent.
    If one of two hosts sees the other, the directory is one: a cache can hide a file, but not invent one.
    """
    parents = {host: host for host in seen}

    def find_root(host: str) -> str:
        while parents[host] != host:
            host = parents[host]
        return host

    order = {host: number for number, host in enumerate(seen)}
    for host, others in seen.items():
        for other in others:
            if other in parents:
                first, second = sorted((find_root(host), find_root(other)), key=lambda name: order[name])
                parents[second] = first
    groups: dict[str, list[str]] = {}
    for host in seen:
        groups.setdefault(find_root(host), []).append(host)
    return [DirectoryGroup(hosts=tuple(hosts), is_source=bool(own.intersection(hosts))) for hosts in groups.values()]
