"""Usage of hosts as plain text, for ``fanout top --once``: hosts, processes, and warnings."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fanout.sharing.host_usage import HostUsage, Reach
from fanout.sharing.usage_order import UsageGroup, group_processes
from fanout.text.table import format_table
from fanout.ui.usage_cells import (
    describe_reach,
    format_degrees,
    format_mib,
    format_pair,
    format_percent,
    format_power,
    list_warnings,
)

_HOSTS = ("HOST", "GPUS", "FREE", "UTIL", "GPU-MEM", "TEMP", "POWER", "CPU", "RAM", "DISK-FREE", "STATE")
_PROCESSES = ("HOST", "GPU", "USER", "PID", "STARTED", "GPU-MEM", "RUN", "COMMAND")
_STATES = {Reach.UP: "up", Reach.UNREACHABLE: "unreachable", Reach.REFUSED: "refused", Reach.CONNECTING: "no answer"}


def render_usage(hosts: Sequence[HostUsage], now: float, width: int | None = None) -> list[str]:
    """Return the lines: a table of hosts, one of processes, and the warnings. Without ``width`` nothing is cut."""
    lines = format_table([_build_host_row(host) for host in hosts], header=_HOSTS, width=width)
    groups = [(host, group) for host in hosts for group in group_processes(host)]
    rows = [_build_process_row(host, group) for host, group in groups]
    if rows:
        runs = frozenset({_PROCESSES.index("RUN")})
        lines += ["", *format_table(rows, header=_PROCESSES, whole=runs, width=width)]
    warnings = [f"{host.host}: {text}" for host in hosts for text in list_warnings(host, now)]
    silent = [f"{host.host}: {reach}" for host in hosts if (reach := describe_reach(host))]
    return [*lines, *([""] if warnings or silent else []), *warnings, *silent]


def _build_host_row(host: HostUsage) -> tuple[str, ...]:
    state = "silent" if host.is_up and host.trouble else _STATES[host.reach]
    free = str(len(host.free_gpus)) if host.gpus else "-"
    return (
        host.host,
        str(len(host.gpus)) if host.at is not None else "-",
        free,
        format_percent(host.utilisation),
        format_pair(host.gpu_memory),
        format_degrees(host.temp),
        format_power(host.watts),
        format_percent(host.cpu),
        format_pair(host.memory),
        format_mib(host.disk[0] if host.disk else None),
        state,
    )


def _build_process_row(host: HostUsage, group: UsageGroup) -> tuple[str, ...]:
    started = time.strftime("%m-%d %H:%M", time.localtime(group.since)) if group.since is not None else "-"
    pids = str(group.pids[0]) + (f"+{len(group.pids) - 1}" if len(group.pids) > 1 else "") if group.pids else "-"
    return (
        host.host,
        group.place or "-",
        group.user or "?",
        pids,
        started,
        format_mib(group.memory),
        group.run or "-",
        group.command or "-",
    )
