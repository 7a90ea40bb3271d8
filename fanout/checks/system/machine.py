"""Checks of the machine: clock, memory, load, kernel settings, upgrades, and processes of earlier runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from fanout.checks.engine.comparison import compute_medians_of_others, find_outlier_groups
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, fail, info, ok, skip, warn
from fanout.checks.system import live_runs
from fanout.text.units import format_binary_size, format_duration

_CLOCK_WARNS, _CLOCK_FAILS = 0.5, 5.0
_LEAST_MEMORY = 0.1
_MOST_SWAPPED = 0.1
_UNREACHABLE_PATHS = re.compile(r"nfs|rpc_|lustre|ceph|fuse|nv_|nvidia|uvm_|amdgpu|kfd")


def _judge_clock(case: CheckContext) -> Iterator[CheckResult]:
    yield skip([name for name in case.hosts if name not in case.offsets], "the time of the answer is not known")
    offsets = {name: case.offsets[name] for name in case.hosts if name in case.offsets}
    if _is_own_clock_wrong(offsets):
        ahead = -median(offset for offset, _ in offsets.values())
        yield warn(
            tuple(offsets),
            f"the hosts agree, and this machine's clock is {_format_seconds(ahead)} against theirs",
            "set the clock of this machine (the launcher):  sudo timedatectl set-ntp true",
        )
        return
    apart = {name: max(0.0, abs(offset) - margin) for name, (offset, margin) in offsets.items()}
    within = max(
        (abs(offset) + margin for name, (offset, margin) in offsets.items() if apart[name] <= _CLOCK_WARNS), default=0
    )
    for name, (offset, _) in offsets.items():
        saw = f"{_format_seconds(offset)} against this machine"
        if apart[name] > _CLOCK_FAILS:
            yield fail(
                name,
                saw,
                f"set it:  {case.format_remote_command(name, 'sudo chronyc makestep')}   (or start a time service there)",
            )
        elif apart[name] > _CLOCK_WARNS:
            yield warn(
                name, saw, f"start chrony on {name}; until then, log lines of different hosts may be out of order"
            )
        else:
            yield ok(
                name,
                f"within {1000 * within:.0f} ms of this machine's (warning above {1000 * _CLOCK_WARNS:.0f} ms)",
            )


def _is_own_clock_wrong(offsets: Mapping[str, tuple[float, float]]) -> bool:
    """Return whether several hosts agree on another time than this machine's, which is then the wrong one."""
    highest = max((offset - margin for offset, margin in offsets.values()), default=0.0)
    lowest = min((offset + margin for offset, margin in offsets.values()), default=0.0)
    far = all(abs(offset) - margin > _CLOCK_WARNS for offset, margin in offsets.values())
    return len(offsets) > 1 and far and highest - lowest <= _CLOCK_WARNS


def _format_seconds(offset: float) -> str:
    return f"{offset:+.1f} s" if abs(offset) >= 1 else f"{1000 * offset:+.0f} ms"


def _judge_memory(case: CheckContext) -> Iterator[CheckResult]:
    for name, memory in case.get_section("memory").items():
        if memory["available"] < _LEAST_MEMORY * memory["total"]:
            yield warn(
                name,
                f"{format_binary_size(memory['available'])} of {format_binary_size(memory['total'])} memory is free",
                f"see which processes use it:  {case.format_remote_command(name, 'ps aux --sort -rss | head')}",
            )
        elif memory["swap_used"] > _MOST_SWAPPED * memory["total"]:
            yield warn(
                name,
                f"{format_binary_size(memory['swap_used'])} of memory is on the swap disk",
                f"the host ran short of memory, and reading it back is slow:  {case.format_remote_command(name, 'sudo swapoff -a')}",
            )


def _judge_load(case: CheckContext) -> Iterator[CheckResult]:
    """Yield warnings for hosts far busier than the others. If all are busy, a run may just have ended."""
    shares = {name: cpu["load"] / cpu["usable"] for name, cpu in case.get_section("cpu").items()}
    usual = compute_medians_of_others(shares)
    for name, cpu in case.get_section("cpu").items():
        if shares[name] > max(1.5, 3 * usual.get(name, shares[name])):
            yield warn(
                name,
                f"load {cpu['load']:.0f} on {cpu['usable']} processors",
                f"see which processes run there:  {case.format_remote_command(name, 'top -b -n 1 | head -20')}",
            )
        if cpu["usable"] < cpu["count"] / 2:
            yield info(name, f"a login may use {cpu['usable']} of {cpu['count']} processors")


def _judge_governor(case: CheckContext) -> Iterator[CheckResult]:
    governors = {name: cpu["governor"] for name, cpu in case.get_section("cpu").items() if cpu["governor"]}
    for odd in find_outlier_groups(governors):
        yield warn(
            odd.hosts,
            f"frequency governor {odd.format_difference()}",
            case.format_remote_command(odd.hosts[0], f"sudo cpupower frequency-set -g {odd.usual}"),
        )


def _judge_numa(case: CheckContext) -> Iterator[CheckResult]:
    balancing = {name: bool(kernel["numa_balancing"]) for name, kernel in case.get_section("kernel").items()}
    for odd in find_outlier_groups(balancing):
        yield info(
            odd.hosts,
            f"NUMA balancing: {odd.format_difference({True: 'on', False: 'off'}.__getitem__)}",
            "it moves memory while GPUs copy from it; switch it off on all hosts:  sudo sysctl kernel.numa_balancing=0",
        )


def _judge_stuck(case: CheckContext) -> Iterator[CheckResult]:
    """Yield warnings for processes stuck in a file server or a GPU driver; a busy disk may look the same for a moment."""
    for name, rows in case.get_section("stuck").items():
        bad = [row for row in rows if _UNREACHABLE_PATHS.search(row["wchan"])]
        if bad:
            shown = ", ".join(f"pid {row['pid']} {row['command']} in {row['wchan']}" for row in bad[:3])
            yield warn(
                name,
                f"processes are stuck waiting for a file server or a GPU: {shown}",
                f"see  {case.format_remote_command(name, 'dmesg | tail')}   (a run will hang in the same way)",
            )


def _judge_leftovers(case: CheckContext) -> Iterator[CheckResult]:
    """Yield warnings for processes of ended runs, and notes for runs that are still running."""
    going: dict[str, list[str]] = {}
    for name, rows in case.get_section("leftovers").items():
        running = {run["run"] for run in live_runs.list_runs(case, name)}
        running |= {row["run"] for row in rows if row.get("kept")} - case.request.earlier_attempts
        for run in running - live_runs.find_blocking_runs(case):
            going.setdefault(run, []).append(name)
        by_run: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            if not row.get("kept") and row["run"] not in running:
                by_run.setdefault(row["run"], []).append(row)
        for run, mine in by_run.items():
            yield _judge_leftover_run(case, name, run, mine)
    for run, names in going.items():
        yield info(
            names, f"your run {run} is running here", f"to stop it:  {case.commands.build_fanout_command('stop', run)}"
        )


def _judge_leftover_run(case: CheckContext, name: str, run: str, rows: Sequence[Mapping[str, Any]]) -> CheckResult:
    first = rows[0]
    since = f", since {format_duration(first['age'])}" if first["age"] is not None else ""
    of = f"of run {run}, which has ended" if run else "of an earlier launch"
    many = f"{len(rows)} process{'es' * (len(rows) != 1)}"
    kill = case.format_remote_command(name, f"kill {' '.join(str(row['pid']) for row in rows)}")
    end = case.commands.build_fanout_command("clean", hosts=True) if run and case.commands.source else kill
    return warn(
        name,
        f"{many} {of}: pid {first['pid']}  {first['command'][:60]}{since}",
        f"if they are not needed:  {end}",
    )


def _judge_reboot(case: CheckContext) -> Iterator[CheckResult]:
    for name, kernel in case.get_section("kernel").items():
        if kernel["reboot_required"]:
            yield info(name, "an upgrade needs a reboot", "the loaded drivers may be older than the installed ones")


def _judge_upgrades(case: CheckContext) -> Iterator[CheckResult]:
    for name, upgrades in case.get_section("upgrades").items():
        if upgrades["free"]:
            yield info(
                name,
                f"unattended upgrades are enabled and may replace the GPU driver ({upgrades['free'][0]})",
                f"before a long run:  {case.format_remote_command(name, 'sudo apt-mark hold ' + ' '.join(upgrades['free']))}",
            )


def _judge_kernel(case: CheckContext) -> Iterator[CheckResult]:
    for section in ("machine", "release", "system"):
        values = {name: str(kernel[section]) for name, kernel in case.get_section("kernel").items()}
        for odd in find_outlier_groups(values):
            verdict = warn if section == "machine" else info
            yield verdict(odd.hosts, odd.format_difference(), "")


CHECKS = (
    Check(
        name="clock", group="system", worst="fail",
        verifies="The host's clock is within half a second of this machine's clock (fail: 5 seconds). If all hosts agree on "
        "another time, the warning is about this machine.",
        why="Otherwise logs are out of order, .pyc files and make targets are stale, and certificates are not yet valid.",
        fix="Run chrony or systemd-timesyncd on every host.",
        judge=_judge_clock,
    ),
    Check(
        name="memory", group="system", worst="warn", needs=("memory",),
        verifies="More than 10 % of the memory is free, and swap use is below 10 % of the memory size.",
        why="The model is loaded into memory first. If memory is full, the kernel kills a process (exit status 137).",
        fix="Find the processes that use it, and ask their owner.",
        judge=_judge_memory,
    ),
    Check(
        name="load", group="system", worst="warn", needs=("cpu",),
        verifies="The processors are not busy with other work.",
        why="Otherwise data loaders are slow on that host, and all others wait for it in every step.",
        fix="Find the processes that run there, and ask their owner.",
        judge=_judge_load,
    ),
    Check(
        name="governor", group="system", worst="warn", needs=("cpu",),
        verifies="The processors of all hosts have the same frequency governor.",
        why="A host with the governor powersave slows every step.",
        fix="Run cpupower frequency-set -g performance.",
        judge=_judge_governor,
    ),
    Check(
        name="numa", group="system", worst="info", needs=("kernel",),
        verifies="The kernel's NUMA balancing is on for all hosts, or off for all.",
        why="It moves memory between sockets while GPUs copy from it, so the step time of that host varies.",
        fix="Run sysctl kernel.numa_balancing=0 on all hosts.",
        judge=_judge_numa,
    ),
    Check(
        name="stuck", group="system", worst="warn", needs=("stuck",), place="machine",
        verifies="No process is stuck in the kernel waiting for a file server or a GPU driver.",
        why="The file server is unreachable or the GPU hangs, so the run will hang too.",
        fix="Find the device in dmesg; often only a reboot helps.",
        judge=_judge_stuck,
    ),
    Check(
        name="leftovers", group="system", worst="warn", needs=("leftovers",),
        verifies="No process of an earlier run of this user is still alive on the host.",
        why="It holds the port and GPU memory: EADDRINUSE, out of memory, or processes of two runs in one group.",
        fix="If the processes are not needed, use the command in the finding.",
        judge=_judge_leftovers,
    ),
    Check(
        name="reboot", group="system", worst="info", needs=("kernel",), place="machine",
        verifies="No upgrade needs a reboot.",
        why="If an upgrade replaced a loaded driver, the next start fails.",
        fix="Reboot the host between runs.",
        judge=_judge_reboot,
    ),
    Check(
        name="upgrades", group="system", worst="info", needs=("upgrades",), place="machine",
        verifies="If unattended upgrades are enabled (Debian, Ubuntu), the packages of the NVIDIA driver are held.",
        why="After an upgrade of the driver at night, every new process on that host fails: “Driver/library version "
        "mismatch”.",
        fix="Run sudo apt-mark hold on its packages, or add nvidia to Unattended-Upgrade::Package-Blacklist.",
        judge=_judge_upgrades,
    ),
    Check(
        name="kernel", group="system", worst="warn", needs=("kernel",),
        verifies="All hosts have the same processor architecture. Different kernels and distributions are reported as notes.",
        why="Compiled extensions do not work on another architecture.",
        fix="Exclude the host that differs with -x, or build for both.",
        judge=_judge_kernel,
    ),
)  # fmt: skip
