"""Benchmark of ``fanout check`` on many hosts: time after connecting, and CPU of the launcher and of the hosts.

All hosts are names of one machine, which does the work of all of them. With few processors, the wall time depends on the
CPU time of the hosts. Only the CPU time of the launcher is the same as with real hosts.
"""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import dataclass
from pathlib import Path

from bench.common import ContenderFailed, Table, run_timed
from bench.stage import build_fanout, build_many_hosts, build_start, start_machines
from tests.lab import ns
from tests.lab.lab import Lab
from tests.lab.node import Node

HOSTS = (8, 32)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSample:
    """Result of one check: seconds after connecting and in total; CPU seconds of launcher, hosts and their logins."""

    connected: float
    wall: float
    launcher: float
    hosts: float
    logins: float


def measure(repeat: int = 3) -> Table:
    rows = [_measure_row(count, repeat) for count in HOSTS]
    return Table(
        title="`fanout check` of names behind one sshd",
        columns=("hosts", "after connecting, s", "total, s", "launcher CPU, s", "hosts' CPU, s", "of that, logins, s"),
        rows=tuple(rows),
        notes=(
            f"Median (minimum) of {repeat} runs. The launcher and all hosts share {os.cpu_count()} processors.",
            "Logins: the CPU time of the hosts for `fanout exec HOSTS -- true`.",
        ),
    )


def _measure_row(count: int, repeat: int) -> tuple[str, ...]:
    with start_machines([build_many_hosts(count)]) as lab:
        try:
            runs = [_run_check(lab) for _ in range(repeat)]
        except ContenderFailed as error:
            return (str(count), str(error), "", "", "", "")
    columns = (
        [run.connected for run in runs],
        [run.wall for run in runs],
        [run.launcher for run in runs],
        [run.hosts for run in runs],
        [run.logins for run in runs],
    )
    return (str(count), *(f"{statistics.median(column):.3g} ({min(column):.3g})" for column in columns))


def _run_check(lab: Lab) -> CheckSample:
    """Run one check, after a plain command on the same hosts."""
    start, (host,) = build_start(lab), lab.hosts
    before = _read_cpu_seconds(host)
    run_timed(build_fanout("exec", "exec", "../hosts.txt", "--", "true"), start, 0)
    between = _read_cpu_seconds(host)
    report = lab.launcher.get_path("/tmp/check.json")
    sample = run_timed(build_fanout("check", "check", "--json", "../hosts.txt", "task.py", to=str(report)), start, 0)
    return CheckSample(
        connected=_read_seconds(report),
        wall=sample.wall,
        launcher=sample.cpu,
        hosts=_read_cpu_seconds(host) - between,
        logins=between - before,
    )


def _read_seconds(report: Path) -> float:
    """Return the duration that the check reports, measured after all hosts were connected."""
    return float(json.loads(report.read_text(encoding="utf-8"))["seconds"])


def _read_cpu_seconds(host: Node) -> float:
    """Wait until all sessions have ended; return the CPU seconds of all processes and their reaped children."""
    ns.wait_until(lambda: not host.list_processes(), 30, "all sessions to end")
    total = 0
    for process in ns.list_inhabitants({ns.read_namespace(host.pid, "pid")}):
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15])
    return total / _TICKS
