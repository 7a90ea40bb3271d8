"""Hosts: one frozen value per entry of the hostfile; their order decides the node ranks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import field
from functools import lru_cache

from fanout.model.frozen import frozen


@frozen
class Origin:
    """The file and line of an entry: ``hosts.txt:3``."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@frozen
class Host:
    """One machine as the user described it. ``None`` means "not given", never a default.

    ``name`` is unique within a run. ssh_config is asked for ``ssh_name``, which is nearly always ``name``.
    ``hostname`` is the address to connect to, like HostName in ssh_config (``ansible_host`` in Ansible). ``slots`` is
    the number of processes (None: one per GPU found there). ``gpus`` are the ids for CUDA_VISIBLE_DEVICES. ``addr`` is
    the address that the *other* hosts use. ``workdir`` and ``python`` override those of the run. ``container`` is the
    container that fanout enters there, and ``engine`` its engine. ``image`` is the image from which fanout creates it.
    """

    name: str
    origin: Origin
    user: str | None = None
    port: int | None = None
    hostname: str | None = None
    slots: int | None = None
    gpus: tuple[str, ...] = ()
    addr: str | None = None
    iface: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    python: str | None = None
    workdir: str | None = None
    container: str | None = None
    image: str | None = None
    engine: str | None = None
    kind: str | None = None
    spare: bool = False
    tags: tuple[str, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def ssh_name(self) -> str:
        """Return the name that ssh_config is asked for: the address if two hosts share one address."""
        return self.hostname if self.hostname and self.name == f"{self.hostname}:{self.port}" else self.name


@frozen
class HostFile:
    """A parsed hostfile: the hosts in rank order, and notes for the user."""

    source: str
    hosts: tuple[Host, ...]
    notes: tuple[str, ...] = field(default=())


_TAIL = re.compile(r"^(.*?)(\d+)(\D*)$")


def fold_names(names: Iterable[str]) -> str:
    """Fold names with numbers into ranges: ``gpu01 gpu02 gpu03 login`` -> ``gpu[01-03],login``.

    Zero padding counts (``n1`` and ``n01`` are two names). Groups keep the order of their first appearance.
    """
    return _fold_names(tuple(names))


def fold_numbers(numbers: Iterable[int]) -> str:
    """Fold numbers into ranges, sorted, as a user types them: ``0-3,7``."""
    return fold_names(map(str, sorted(numbers))).strip("[]")


@lru_cache(maxsize=512)  # a view folds the same few sets of hosts repeatedly
def _fold_names(names: tuple[str, ...]) -> str:
    parts = {name: _TAIL.match(name) for name in names}
    padded = {(m[1], m[3], len(m[2])) for m in parts.values() if m and len(m[2]) > 1 and m[2][0] == "0"}
    groups: dict[tuple[str, str, int], list[int]] = {}
    order: list[tuple[str, str, int] | str] = []
    for name, match in parts.items():
        if match is None:
            order.append(name)
            continue
        head, digits, tail = match.groups()
        key = (head, tail, len(digits))  # 09 and 10 have the same width; 9 and 10 do not
        if key not in padded:
            key = (head, tail, 0)
        if key not in groups:
            groups[key] = []
            order.append(key)
        groups[key].append(int(digits))
    return ",".join(item if isinstance(item, str) else _format_group(item, groups[item]) for item in order)


def _format_group(key: tuple[str, str, int], numbers: list[int]) -> str:
    head, tail, width = key
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [f"{run[0]:0{width}d}" if len(run) == 1 else f"{run[0]:0{width}d}-{run[-1]:0{width}d}" for run in runs]
    if len(numbers) == 1:
        return f"{head}{parts[0]}{tail}"
    return f"{head}[{','.join(parts)}]{tail}"
