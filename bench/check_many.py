"""``fanout check`` on many hosts: how long once connected, and what it costs the launcher and the hosts, apart.

All hosts are names of one machine, which has to do the work of them all: where the processors are few, the wall time is
that of the hosts' CPU divided among them, and only the launcher's own CPU is what a launcher of real hosts would need.
"""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import dataclass
from pathlib import Path

from bench.common import Table, Unfit, clocked
from bench.stage import fanout, machines, many, on
from tests.lab import ns
from tests.lab.lab import Lab
from tests.lab.node import Node

HOSTS = (8, 32)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One check: seconds once connected and in all, and CPU of the launcher, of the hosts, of their mere logins."""

    connected: float
    wall: float
    launcher: float
    hosts: float
    logins: float


def measure(repeat: int = 3) -> Table:
    rows = [_row(count, repeat) for count in HOSTS]
    return Table(
        title="`fanout check` of names behind one sshd",
        columns=("hosts", "once connected, s", "in all, s", "launcher's CPU", "hosts' CPU", "of it, to log in"),
        rows=tuple(rows),
        notes=(
            f"Median (minimum) of {repeat} runs. {os.cpu_count()} processors play the launcher and all hosts.",
            "To log in: what the hosts need for `fanout exec HOSTS -- true`.",
        ),
    )


def _row(count: int, repeat: int) -> tuple[str, ...]:
    with machines([many(count)]) as lab:
        try:
            runs = [_checked(lab) for _ in range(repeat)]
        except Unfit as error:
            return (str(count), str(error), "", "", "", "")
    columns = (
        [run.connected for run in runs], [run.wall for run in runs], [run.launcher for run in runs],
        [run.hosts for run in runs], [run.logins for run in runs],
    )  # fmt: skip
    return (str(count), *(f"{statistics.median(column):.3g} ({min(column):.3g})" for column in columns))


def _checked(lab: Lab) -> Checked:
    """One check, with a bare command before it on the same hosts."""
    start, (host,) = on(lab), lab.hosts
    before = _spent(host)
    clocked(fanout("exec", "exec", "../hosts.txt", "--", "true"), start, 0)
    between = _spent(host)
    told = lab.launcher.path("/tmp/check.json")
    sample = clocked(
        fanout("check", "check", "--json", "../hosts.txt", "task.py", to=str(told)), start, 0
    )  # fmt: skip
    return Checked(
        connected=_seconds(told), wall=sample.wall, launcher=sample.cpu,
        hosts=_spent(host) - between, logins=between - before,
    )  # fmt: skip


def _seconds(told: Path) -> float:
    """What the check itself says it took once all hosts were connected."""
    return float(json.loads(told.read_text(encoding="utf-8"))["seconds"])


def _spent(host: Node) -> float:
    """CPU seconds of all that lives on a machine, and of all that they have waited for; once everybody has logged out."""
    ns.until(lambda: not host.processes(), 30, "everybody to log out")
    total = 0
    for process in ns.inhabitants({ns.namespace(host.pid, "pid")}):
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15])
    return total / _TICKS
