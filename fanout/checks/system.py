"""Checks of the machine itself: clock, limits, memory, load, and what earlier runs left."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from fanout.checks import live
from fanout.checks.compare import age, outliers, size, usual_beside
from fanout.checks.model import Case, Check, Verdict, fail, info, ok, skip, warn

_CLOCK_WARNS, _CLOCK_FAILS = 0.5, 5.0
_LEAST_MEMORY = 0.1
_MOST_SWAPPED = 0.1
_DEAD_ENDS = re.compile(r"nfs|rpc_|lustre|ceph|fuse|nv_|nvidia|uvm_|amdgpu|kfd")


def _clock(case: Case) -> Iterator[Verdict]:
    yield skip([name for name in case.hosts if name not in case.offsets], "the time of the exchange is not known")
    offsets = {name: case.offsets[name] for name in case.hosts if name in case.offsets}
    if _ours_is_off(offsets):
        ahead = -median(offset for offset, _ in offsets.values())
        yield warn(
            tuple(offsets), f"they agree, and this machine's clock is {_seconds(ahead)} against theirs",
            "set the clock here (the launcher's), for instance:  sudo timedatectl set-ntp true",
        )  # fmt: skip
        return
    apart = {name: max(0.0, abs(offset) - margin) for name, (offset, margin) in offsets.items()}
    within = max(
        (abs(offset) + margin for name, (offset, margin) in offsets.items() if apart[name] <= _CLOCK_WARNS), default=0
    )
    for name, (offset, _) in offsets.items():
        saw = f"{_seconds(offset)} against this machine"
        if apart[name] > _CLOCK_FAILS:
            yield fail(
                name, saw, f"set it:  {case.on(name, 'sudo chronyc makestep')}   (or start a time service there)"
            )
        elif apart[name] > _CLOCK_WARNS:
            yield warn(
                name, saw, f"start chrony on {name}; logs of different hosts are hard to put in order until then"
            )
        else:
            yield ok(
                name,
                f"within {1000 * within:.0f} ms of this machine's (warned of from {1000 * _CLOCK_WARNS:.0f} ms on)",
            )


def _ours_is_off(offsets: Mapping[str, tuple[float, float]]) -> bool:
    """Whether several hosts agree among themselves on another time than ours: then it is not they who are wrong."""
    highest = max((offset - margin for offset, margin in offsets.values()), default=0.0)
    lowest = min((offset + margin for offset, margin in offsets.values()), default=0.0)
    far = all(abs(offset) - margin > _CLOCK_WARNS for offset, margin in offsets.values())
    return len(offsets) > 1 and far and highest - lowest <= _CLOCK_WARNS


def _seconds(offset: float) -> str:
    return f"{offset:+.1f} s" if abs(offset) >= 1 else f"{1000 * offset:+.0f} ms"


def _memory(case: Case) -> Iterator[Verdict]:
    for name, memory in case.of("memory").items():
        if memory["available"] < _LEAST_MEMORY * memory["total"]:
            yield warn(
                name, f"{size(memory['available'])} of {size(memory['total'])} memory is free",
                f"see who has it:  {case.on(name, 'ps aux --sort -rss | head')}",
            )  # fmt: skip
        elif memory["swap_used"] > _MOST_SWAPPED * memory["total"]:
            yield warn(
                name, f"{size(memory['swap_used'])} of memory are on the swap disk",
                f"it was short of memory, and is slow where they are wanted:  {case.on(name, 'sudo swapoff -a')}",
            )  # fmt: skip


def _load(case: Case) -> Iterator[Verdict]:
    """Busy by itself is no news (hosts may share a machine, a run may just have ended); busier than the others is."""
    shares = {name: cpu["load"] / cpu["usable"] for name, cpu in case.of("cpu").items()}
    usual = usual_beside(shares)
    for name, cpu in case.of("cpu").items():
        if shares[name] > max(1.5, 3 * usual.get(name, shares[name])):
            yield warn(
                name, f"load {cpu['load']:.0f} on {cpu['usable']} processors",
                f"see what runs there:  {case.on(name, 'top -b -n 1 | head -20')}",
            )  # fmt: skip
        if cpu["usable"] < cpu["count"] / 2:
            yield info(name, f"a login may use {cpu['usable']} of {cpu['count']} processors")


def _governor(case: Case) -> Iterator[Verdict]:
    governors = {name: cpu["governor"] for name, cpu in case.of("cpu").items() if cpu["governor"]}
    for odd in outliers(governors):
        yield warn(
            odd.hosts, f"processors run under {odd.against()}",
            case.on(odd.hosts[0], f"sudo cpupower frequency-set -g {odd.usual}"),
        )  # fmt: skip


def _numa(case: Case) -> Iterator[Verdict]:
    balancing = {name: bool(kernel["numa_balancing"]) for name, kernel in case.of("kernel").items()}
    for odd in outliers(balancing):
        yield info(
            odd.hosts, f"NUMA balancing: {odd.against({True: 'on', False: 'off'}.__getitem__)}",
            "it moves memory from under the GPUs' copies; off on all:  sudo sysctl kernel.numa_balancing=0",
        )  # fmt: skip


def _stuck(case: Case) -> Iterator[Verdict]:
    """A busy disk looks the same for a moment; only a file server or a GPU driver is worth a warning."""
    for name, rows in case.of("stuck").items():
        bad = [row for row in rows if _DEAD_ENDS.search(row["wchan"])]
        if bad:
            shown = ", ".join(f"pid {row['pid']} {row['command']} in {row['wchan']}" for row in bad[:3])
            yield warn(
                name, f"waits without end for a file server or a GPU: {shown}",
                f"see  {case.on(name, 'dmesg | tail')}   (every run there will hang in the same place)",
            )  # fmt: skip


def _leftovers(case: Case) -> Iterator[Verdict]:
    """Processes of a run that is over; a run that goes on is told, and is no fault."""
    going: dict[str, list[str]] = {}
    for name, rows in case.of("leftovers").items():
        running = {run["run"] for run in case.facts[name].get("runs", ())}
        running |= {row["run"] for row in rows if row.get("kept")}
        for run in running - live.in_the_way(case):
            going.setdefault(run, []).append(name)
        by_run: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            if not row.get("kept") and row["run"] not in running:
                by_run.setdefault(row["run"], []).append(row)
        for run, mine in by_run.items():
            yield _left(case, name, run, mine)
    for run, names in going.items():
        yield info(names, f"your run {run} goes on here", f"to end it:  {case.commands.fanout('stop', run)}")


def _left(case: Case, name: str, run: str, rows: Sequence[Mapping[str, Any]]) -> Verdict:
    first = rows[0]
    since = f", since {age(first['age'])}" if first["age"] is not None else ""
    of = f"of run {run}, which is over" if run else "of an earlier launch"
    many = f"{len(rows)} process{'es' * (len(rows) != 1)}"
    kill = case.on(name, f"kill {' '.join(str(row['pid']) for row in rows)}")
    end = case.commands.fanout("clean", hosts=True) if run and case.commands.source else kill
    return warn(
        name,
        f"{many} {of}: pid {first['pid']}  {first['command'][:60]}{since}",
        f"if nobody needs them:  {end}",
    )


def _reboot(case: Case) -> Iterator[Verdict]:
    for name, kernel in case.of("kernel").items():
        if kernel["reboot_required"]:
            yield info(name, "an upgrade waits for a reboot", "drivers may have been replaced under the running ones")


def _upgrades(case: Case) -> Iterator[Verdict]:
    for name, upgrades in case.of("upgrades").items():
        if upgrades["free"]:
            yield info(
                name, f"unattended upgrades are on, and may replace the GPU driver ({upgrades['free'][0]})",
                f"before a long run:  {case.on(name, 'sudo apt-mark hold ' + ' '.join(upgrades['free']))}",
            )  # fmt: skip


def _kernel(case: Case) -> Iterator[Verdict]:
    for section in ("machine", "release", "system"):
        values = {name: str(kernel[section]) for name, kernel in case.of("kernel").items()}
        for odd in outliers(values):
            verdict = warn if section == "machine" else info
            yield verdict(odd.hosts, odd.against(), "")


CHECKS = (
    Check(
        name="clock", group="system", worst="fail",
        verifies="The host's clock is within half a second of this machine's (5 seconds: fail). Where all hosts agree on "
        "another time, it is this machine that is warned of.",
        why="Logs are out of order, make and .pyc files are stale, certificates are not yet valid.",
        fix="Run chrony or systemd-timesyncd on every host.",
        judge=_clock,
    ),
    Check(
        name="memory", group="system", worst="warn", needs=("memory",),
        verifies="More than a tenth of the memory is free, and less than a tenth of it is on the swap disk.",
        why="The model is loaded into it first; exit status 137 is the kernel's answer.",
        fix="See who has it, and agree.",
        judge=_memory,
    ),
    Check(
        name="load", group="system", worst="warn", needs=("cpu",),
        verifies="The processors are not busy with other work.",
        why="Data loaders starve on that host, and all others wait for it in every step.",
        fix="See what runs there, and agree.",
        judge=_load,
    ),
    Check(
        name="governor", group="system", worst="warn", needs=("cpu",),
        verifies="All hosts run their processors under the same frequency governor.",
        why="One host in powersave is the slowest of every step.",
        fix="cpupower frequency-set -g performance.",
        judge=_governor,
    ),
    Check(
        name="numa", group="system", worst="info", needs=("kernel",),
        verifies="The kernel's NUMA balancing is on, or off, on all hosts alike.",
        why="It moves memory between sockets while GPUs copy from it: steps of that host jitter.",
        fix="sysctl kernel.numa_balancing=0 on all.",
        judge=_numa,
    ),
    Check(
        name="stuck", group="system", worst="warn", needs=("stuck",),
        verifies="No process is stuck in the kernel waiting for a file server or a GPU driver.",
        why="They wait for a dead file server or a wedged GPU; the run will, too.",
        fix="dmesg names the device; often only a reboot helps.",
        judge=_stuck,
    ),
    Check(
        name="leftovers", group="system", worst="warn", needs=("leftovers",),
        verifies="No process of an earlier run of this user is alive on the host.",
        why="It holds the port and GPU memory: EADDRINUSE, out of memory, or two runs in one group.",
        fix="kill the pids that the finding names, if nobody needs them.",
        judge=_leftovers,
    ),
    Check(
        name="reboot", group="system", worst="info", needs=("kernel",),
        verifies="No upgrade waits for a reboot.",
        why="A driver replaced under a running one fails at the next start.",
        fix="Reboot when it suits.",
        judge=_reboot,
    ),
    Check(
        name="upgrades", group="system", worst="info", needs=("upgrades",),
        verifies="Where unattended upgrades are on (Debian, Ubuntu), the packages of NVIDIA's driver are held.",
        why="A driver that is replaced in the night fails whatever starts on that host from then on: “Driver/library "
        "version mismatch”.",
        fix="sudo apt-mark hold its packages, or name nvidia in Unattended-Upgrade::Package-Blacklist.",
        judge=_upgrades,
    ),
    Check(
        name="kernel", group="system", worst="warn", needs=("kernel",),
        verifies="All hosts have the same processor architecture; kernel and distribution are told where they differ.",
        why="Compiled extensions do not cross architectures.",
        fix="Leave the odd one out, or build for both.",
        judge=_kernel,
    ),
)  # fmt: skip
