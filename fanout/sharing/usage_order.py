"""Order and selection of hosts for a view of their usage, and processes that belong together. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from fanout.model.frozen import frozen
from fanout.sharing.availability import fold_gpus
from fanout.sharing.host_usage import HostUsage, ProcessUsage, RunUsage

SORTS = ("file", "free", "gpu", "memory", "temp", "power", "cpu")
_KEYS: dict[str, Callable[[HostUsage], float | None]] = {
    "free": lambda host: float(len(host.free_gpus) if host.gpus else host.is_free),
    "gpu": lambda host: host.utilisation,
    "memory": lambda host: host.gpu_memory and host.gpu_memory[0] / max(1.0, host.gpu_memory[1]),
    "temp": lambda host: host.temp,
    "power": lambda host: host.watts,
    "cpu": lambda host: host.cpu,
}


@frozen
class UsageFilter:
    """What a view shows: the order, only these users, only free hosts, only what contains a text, only one host."""

    sort: str = "file"
    users: tuple[str, ...] = ()
    only_free: bool = False
    text: str = ""
    host: str = ""


@frozen
class UsageGroup:
    """Processes of one user with one command on one host, or a run without a process on a GPU."""

    user: str
    run: str
    command: str
    pids: tuple[int, ...]
    gpus: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    memory: float | None = None
    since: float | None = None

    @property
    def place(self) -> str:
        """Return the GPUs as ``0-3``, or the port of a run without GPUs."""
        return fold_gpus(self.gpus) if self.gpus else ",".join(f"port {port}" for port in self.ports)


def select_usage(hosts: Sequence[HostUsage], chosen: UsageFilter) -> list[HostUsage]:
    """Return the hosts to show, in order. Hosts without a value, such as unreachable ones, come last."""
    shown = [narrow_host(host, chosen) for host in hosts if not chosen.host or host.host == chosen.host]
    found = [host for host in shown if host is not None]
    key = _KEYS.get(chosen.sort)
    if key is None:
        return found

    def order_host(host: HostUsage) -> tuple[bool, float]:
        value = key(host) if host.is_up else None
        return value is None, -(value or 0.0)

    return sorted(found, key=order_host)


def narrow_host(host: HostUsage, chosen: UsageFilter) -> HostUsage | None:
    """Return the host with the processes and runs to show; None if nothing of it is shown."""
    if chosen.only_free and not host.is_free:
        return None
    if chosen.users and not host.users & set(chosen.users):
        return None
    if chosen.users:
        processes = tuple(process for process in host.processes if process.user in chosen.users)
        host = replace(host, processes=processes, runs=tuple(run for run in host.runs if run.user in chosen.users))
    if not chosen.text or chosen.text in host.host:
        return host
    processes = tuple(each for each in host.processes if _contains_text(each, chosen.text))
    runs = tuple(each for each in host.runs if _contains_text(each, chosen.text))
    return replace(host, processes=processes, runs=runs) if processes or runs else None


def _contains_text(entry: ProcessUsage | RunUsage, text: str) -> bool:
    command = entry.command if isinstance(entry, ProcessUsage) else ""
    return any(text in part for part in (entry.user, entry.run, command))


def group_processes(host: HostUsage) -> list[UsageGroup]:
    """Return the processes of a host, those of one user with one run and command together, and runs without any."""
    found: dict[tuple[str, str, str], list[ProcessUsage]] = {}
    for process in host.processes:
        found.setdefault((process.user, process.run, process.command), []).append(process)
    groups = [_build_group(key, members) for key, members in found.items()]
    with_process = {(process.user, process.run) for process in host.processes}
    for run in host.runs:
        if (run.user, run.run) not in with_process:
            ports = tuple(claim.partition("-")[2] for claim in run.claims if claim.startswith("port-"))
            pids = (run.pid,) if run.pid is not None else ()
            groups.append(
                UsageGroup(
                    user=run.user, run=run.run, command="", pids=pids, gpus=run.gpus, ports=ports, since=run.since
                )
            )
    return groups


def _build_group(key: tuple[str, str, str], members: Sequence[ProcessUsage]) -> UsageGroup:
    user, run, command = key
    memory = [process.memory for process in members if process.memory is not None]
    return UsageGroup(
        user=user,
        run=run,
        command=command,
        pids=tuple(dict.fromkeys(process.pid for process in members)),
        gpus=tuple(dict.fromkeys(process.gpu or "?" for process in members)),
        memory=sum(memory) if memory else None,
        since=min((process.since for process in members if process.since is not None), default=None),
    )


def count_gpus_by_user(hosts: Iterable[HostUsage]) -> list[tuple[str, int, int]]:
    """Return (user, GPUs, hosts) of each user, most GPUs first."""
    gpus: dict[str, int] = {}
    places: dict[str, int] = {}
    for host in hosts:
        for user in host.users:
            places[user] = places.get(user, 0) + 1
            gpus[user] = gpus.get(user, 0) + sum(user in gpu.users for gpu in host.gpus)
    return sorted(((user, gpus[user], places[user]) for user in gpus), key=lambda row: (-row[1], row[0]))
