"""Checks of the machine itself: clock, limits, memory, load, and what earlier runs left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from statistics import median

from fanout.checks.compare import age, have, outliers, size
from fanout.checks.model import Case, Check, Verdict, fail, info, ok, skip, warn

_CLOCK_WARNS, _CLOCK_FAILS = 0.5, 5.0
_FILES = 4096
_LEAST_MEMORY = 0.1
_DEAD_ENDS = re.compile(r"nfs|rpc_|lustre|ceph|fuse|nv_|nvidia|uvm_|amdgpu|kfd")


def _clock(case: Case) -> Iterator[Verdict]:
    for name in case.hosts:
        if name not in case.offsets:
            yield skip(name, "the time of the exchange is not known")
            continue
        offset, margin = case.offsets[name]
        shown = f"{offset:+.1f} s" if abs(offset) >= 1 else f"{1000 * offset:+.0f} ms"
        saw = f"{shown} against this machine"
        if abs(offset) - margin > _CLOCK_FAILS:
            yield fail(name, saw, f"set it:  ssh {name} sudo chronyc makestep   (or start a time service there)")
        elif abs(offset) - margin > _CLOCK_WARNS:
            yield warn(
                name, saw, f"start chrony on {name}; logs of different hosts are hard to put in order until then"
            )
        else:
            yield ok(name, "in step" if abs(offset) <= margin else saw)


def _open_files(case: Case) -> Iterator[Verdict]:
    for name, limits in case.of("limits").items():
        if 0 <= limits["nofile"] < _FILES:
            yield warn(
                name, f"at most {limits['nofile']} open files a process",
                "data loaders and NCCL need more: put  ulimit -n 65536  into train.sh, or raise it in /etc/security/limits.conf",
            )  # fmt: skip


def _locked_memory(case: Case) -> Iterator[Verdict]:
    for name, limits in case.of("limits").items():
        if not case.facts[name]["infiniband"]:
            yield skip(name, "no InfiniBand")
        elif limits["memlock"] != -1:
            yield warn(
                name, f"at most {size(limits['memlock'])} of locked memory, InfiniBand needs it unlimited",
                "add  * soft memlock unlimited  and  * hard memlock unlimited  to /etc/security/limits.conf there, then log in anew",
            )  # fmt: skip


def _capped(case: Case) -> Iterator[Verdict]:
    for name, memory in case.of("memory").items():
        if memory["cap"] and memory["cap"] < 0.8 * memory["total"]:
            yield warn(
                name, f"a login may use {size(memory['cap'])} of {size(memory['total'])} memory (control group)",
                f"beyond it the kernel kills the run: see  ssh {name} systemctl show user.slice -p MemoryMax",
            )  # fmt: skip
        limits = case.facts[name].get("limits", {})
        if limits.get("as", -1) != -1:
            yield warn(
                name,
                f"a process may map {size(limits['as'])} at most (ulimit -v)",
                "CUDA maps more than that: remove the limit",
            )


def _memory(case: Case) -> Iterator[Verdict]:
    for name, memory in case.of("memory").items():
        if memory["available"] < _LEAST_MEMORY * memory["total"]:
            yield warn(
                name, f"{size(memory['available'])} of {size(memory['total'])} memory is free",
                f"see who has it:  ssh {name} ps aux --sort -rss | head",
            )  # fmt: skip


def _load(case: Case) -> Iterator[Verdict]:
    """Busy by itself is no news (hosts may share a machine, a run may just have ended); busier than the others is."""
    shares = {name: cpu["load"] / cpu["usable"] for name, cpu in case.of("cpu").items()}
    for name, cpu in case.of("cpu").items():
        others = [share for other, share in shares.items() if other != name]
        if shares[name] > 1.5 and others and shares[name] > 3 * median(others):
            yield warn(
                name, f"load {cpu['load']:.0f} on {cpu['usable']} processors",
                f"see what runs there:  ssh {name} top -b -n 1 | head -20",
            )  # fmt: skip
        if cpu["usable"] < cpu["count"] / 2:
            yield info(name, f"a login may use {cpu['usable']} of {cpu['count']} processors")


def _governor(case: Case) -> Iterator[Verdict]:
    governors = {name: cpu["governor"] for name, cpu in case.of("cpu").items() if cpu["governor"]}
    for odd, value, others, usual in outliers(governors):
        yield warn(
            odd,
            f"processors run under {value}; {have(others)} {usual}",
            f"ssh {odd[0]} sudo cpupower frequency-set -g {usual}",
        )


def _stuck(case: Case) -> Iterator[Verdict]:
    """A busy disk looks the same for a moment; only a file server or a GPU driver is worth a warning."""
    for name, rows in case.of("stuck").items():
        bad = [row for row in rows if _DEAD_ENDS.search(row["wchan"])]
        if bad:
            shown = ", ".join(f"pid {row['pid']} {row['command']} in {row['wchan']}" for row in bad[:3])
            yield warn(
                name, f"waits without end for a file server or a GPU: {shown}",
                f"see  ssh {name} dmesg | tail ; every run there will hang in the same place",
            )  # fmt: skip


def _leftovers(case: Case) -> Iterator[Verdict]:
    for name, rows in case.of("leftovers").items():
        if rows:
            pids = " ".join(str(row["pid"]) for row in rows)
            first = rows[0]
            since = f", since {age(first['age'])}" if first["age"] is not None else ""
            run = f"of run {first['run']}" if first["run"] else "of an earlier launch"
            yield warn(
                name, f"{len(rows)} process{'es' * (len(rows) != 1)} {run}: pid {first['pid']}  {first['command'][:60]}{since}",
                f"if nobody needs them:  ssh {name} kill {pids}",
            )  # fmt: skip


def _reboot(case: Case) -> Iterator[Verdict]:
    for name, kernel in case.of("kernel").items():
        if kernel["reboot_required"]:
            yield info(name, "an upgrade waits for a reboot", "drivers may have been replaced under the running ones")


def _kernel(case: Case) -> Iterator[Verdict]:
    for section in ("machine", "release", "system"):
        values = {name: str(kernel[section]) for name, kernel in case.of("kernel").items()}
        for odd, value, others, usual in outliers(values):
            verdict = warn if section == "machine" else info
            yield verdict(odd, f"{value}; {have(others)} {usual}", "")


CHECKS = (
    Check(
        name="clock", group="system", worst="fail",
        verifies="The host's clock is within half a second of this machine's (5 seconds: fail).",
        why="Logs are out of order, make and .pyc files are stale, certificates are not yet valid.",
        fix="Run chrony or systemd-timesyncd on every host.",
        judge=_clock,
    ),
    Check(
        name="open-files", group="system", worst="warn", needs=("limits",),
        verifies=f"A process may open {_FILES} files or more.",
        why="Data loaders share tensors by descriptors, NCCL opens sockets by the hundred: “Too many open files”.",
        fix="ulimit -n 65536 in train.sh, or nofile in /etc/security/limits.conf.",
        judge=_open_files,
    ),
    Check(
        name="locked-memory", group="system", worst="warn", needs=("limits", "infiniband"),
        verifies="Locked memory is unlimited where there is InfiniBand.",
        why="NCCL registers its buffers; the default of 8 MB ends in “ibv_reg_mr failed”.",
        fix="memlock unlimited in /etc/security/limits.conf; sshd needs UsePAM yes for it.",
        judge=_locked_memory,
    ),
    Check(
        name="memory-cap", group="system", worst="warn", needs=("memory",),
        verifies="No control group and no limit cuts the login's memory below 80 % of the machine's.",
        why="The kernel kills the run at the cap, while the machine has memory to spare.",
        fix="Raise MemoryMax of user.slice, or remove ulimit -v.",
        judge=_capped,
    ),
    Check(
        name="memory", group="system", worst="warn", needs=("memory",),
        verifies="More than a tenth of the memory is free.",
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
        name="kernel", group="system", worst="warn", needs=("kernel",),
        verifies="All hosts have the same processor architecture; kernel and distribution are told where they differ.",
        why="Compiled extensions do not cross architectures.",
        fix="Leave the odd one out, or build for both.",
        judge=_kernel,
    ),
)  # fmt: skip
