"""Post-mortem of a host after a failure, before the remaining ranks are ended: kernel log, memory, disks, GPUs, stacks.

All of it is read from files or from small programs with a timeout. A fact that is not available is listed under
``missing`` with its reason. Nothing is changed.
"""

from __future__ import annotations

import glob
import json
import os
import re
import time
from functools import partial

from .. import prepare, processes, smi, state_dir, torch_dirs
from . import flight_files, nccl_ras, network, rdma, spawn_errors
from .probe_tools import (
    FactUnavailable,
    ForkedCall,
    ToolProcess,
    add_missing,
    add_section,
    read_or_empty,
    read_start,
    search_path,
)
from .stacks import ask_stacks, find_directory, list_processes, read_last_stacks

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Callable

PROGRAM_SECONDS = 2.5
GUARD_SECONDS = 2.0
SPY_SECONDS = 0.6  # for py-spy, after the ranks' time to answer a signal: the other ranks are waiting to be ended
MOST_LINES = 40
LONGEST_STACK = 8000
_RELEVANT = re.compile(
    r"Killed process|Out of memory|oom-kill|oom_reaper|NVRM: |Xid|SXid|segfault at|general protection|traps: |"
    r"blocked for more than|soft lockup|I/O error|not responding|Link is Down|Machine [Cc]heck|EDAC|"
    r"EXT4-fs error|XFS .*(?:error|shutdown)|Remounting filesystem|nvme.*(?:timeout|reset)|BUG: |Call Trace"
)
_STAMP = re.compile(r"^\[\s*(\d+\.\d+)\] ")
_GPU = (
    "index",
    "name",
    "utilization.gpu",
    "memory.used",
    "memory.total",
    "temperature.gpu",
    "ecc.errors.uncorrected.volatile.total",
)


def ask_aftermath(args: dict[str, Any]) -> dict[str, Any]:
    """Return the post-mortem. ``args``: run, node, cwd, since (seconds that the run has lasted).

    ``sections`` are the names of those wanted, if not all are: the agent of a machine has no run beside a container.
    """
    answer: dict[str, Any] = {"missing": {}, "reasons": {}}
    names = args.get("sections") or [*_PROGRAMS, *_GUARDED, *_QUICK]
    programs = {name: _start_program(name, argv, answer) for name, argv in _PROGRAMS.items() if name in names}
    asides = {
        name: ForkedCall(partial(part, args), GUARD_SECONDS + 1.0) for name, part in _GUARDED.items() if name in names
    }
    for name, part in _QUICK.items():
        if name in names:
            add_section(answer, name, partial(part, args))
    for name, aside in asides.items():
        add_section(answer, name, aside.get_result)
    for name, program in programs.items():
        if program is not None:
            add_section(answer, name, partial(_finish_program, name, program, args))
    if not answer.get("kernel") and "journal" in answer:
        answer["kernel"] = answer["journal"]
    answer.pop("journal", None)
    return dict(answer, time=time.time())


_PROGRAMS = {
    "kernel": ["dmesg"],
    "journal": ["journalctl", "-k", "-o", "short-monotonic", "-n", "400", "--no-pager", "-q"],
    "gpus": ["nvidia-smi", *smi.build_nvidia_query(_GPU)],
}


def _start_program(name: str, argv: list[str], answer: dict[str, Any]) -> ToolProcess | None:
    try:
        env = {"PATH": search_path({}) + ":/usr/sbin:/sbin" + smi.EXTRA_PATH, "LC_ALL": "C"}
        return ToolProcess(argv, env, PROGRAM_SECONDS)
    except FactUnavailable as error:
        add_missing(answer, name, str(error), error.reason)
        return None


def _finish_program(name: str, program: ToolProcess, args: dict[str, Any]) -> list[str]:
    status, text = program.get_output()
    if status:
        raise FactUnavailable(text.strip()[:200] or "exit %d" % status)
    if name == "gpus":
        return text.splitlines()[:64]
    return select_kernel_lines(text.splitlines(), _read_uptime() - float(args.get("since", 3600.0)) - 5.0)


def select_kernel_lines(lines: list[str], after: float) -> list[str]:
    """Return the relevant kernel lines from ``after`` (seconds since boot) on. Older lines would mislead."""
    found = []
    for line in lines:
        stamp = _STAMP.match(line)
        if stamp is not None and float(stamp.group(1)) >= after and _RELEVANT.search(line):
            found.append(line[:400])
    return found[-MOST_LINES:]


def _read_uptime() -> float:
    return float(read_start("/proc/uptime").split()[0])


def _read_boot_id(args: dict[str, Any]) -> str:
    return processes.read_boot_id()


def _read_load(args: dict[str, Any]) -> dict[str, Any]:
    one, five, _ = os.getloadavg()
    return {"one": one, "five": five, "cores": os.cpu_count() or 1}


def _read_memory(args: dict[str, Any]) -> dict[str, int]:
    """Return MiB of memory, and the OOM kills since boot and in our own control group."""
    values = {}
    for line in read_start("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree"):
            values[name] = int(rest.split()[0]) // 1024
    for line in read_or_empty("/proc/vmstat").splitlines():
        if line.startswith("oom_kill "):
            values["oom_kill"] = int(line.split()[1])
    values["cgroup_oom_kill"] = _count_cgroup_kills()
    return values


def _count_cgroup_kills() -> int:
    for line in read_or_empty("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        file = {
            "": "/sys/fs/cgroup%s/memory.events" % path,
            "memory": "/sys/fs/cgroup/memory%s/memory.oom_control" % path,
        }.get(names)
        for entry in read_or_empty(file).splitlines() if file else ():
            if entry.startswith("oom_kill "):
                return int(entry.split()[1])
    return 0


def _measure_space(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return how full the file systems are to which a run writes."""
    found, seen = [], set()
    directory = find_directory(args)
    workdir = prepare.read_run_info(directory).get("cwd") or args.get("cwd") or "."  # unknown after a takeover
    for path in (workdir, directory, os.environ.get("TMPDIR", "/tmp"), "/dev/shm", os.path.expanduser("~")):
        try:
            where = os.statvfs(path)
            device = os.stat(path).st_dev
        except OSError:
            continue
        if device not in seen and where.f_blocks:
            seen.add(device)
            inodes = 1.0 - where.f_favail / where.f_files if where.f_files else 0.0
            found.append(
                {
                    "path": path,
                    "used": 1.0 - where.f_bavail / where.f_blocks,
                    "free_mb": where.f_bavail * where.f_frsize >> 20,
                    "inodes": inodes,
                }
            )
    return found


def _find_stuck(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the processes of the run that wait in the kernel or are stopped."""
    seen = [processes.describe_process(pid) for pid in list_processes(args)]
    return [each for each in seen if each["state"] in ("D", "T", "t")][:16]


def _read_error_files(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return torch's error files of this run (TORCHELASTIC_ERROR_FILE) with local rank, stack, and age in seconds.

    The files of spawned ranks follow. They do not name their run, so they count only if this user has no other run here.
    """
    directory = find_directory(args)
    found = []
    runs = [os.path.join(directory, "ranks", "*")]
    runs += [glob.escape(run) for _, _, _, run in torch_dirs.read_directories(directory)]
    paths = [path for run in runs for path in glob.glob(os.path.join(run, "attempt_*", "*", "error.json"))]
    for path in paths[:64]:
        try:
            message = json.loads(read_start(path, 1 << 18))["message"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        local = os.path.basename(os.path.dirname(path))
        if isinstance(message, dict):
            more = message.get("extraInfo")
            more = more if isinstance(more, dict) else {}
            stamp = str(more.get("timestamp", ""))
            found.append(
                {
                    "local_rank": int(local) if local.isdigit() else None,
                    "message": str(message.get("message", ""))[:2000],
                    "stack": str(more.get("py_callstack", ""))[-LONGEST_STACK:],
                    "age": max(0.0, time.time() - int(stamp)) if stamp.isdigit() else None,
                    "path": path,
                }
            )
    runs_here = [run for root in state_dir.list_state_dirs() for run in state_dir.list_runs(root)]
    if len(runs_here) == 1:
        cwd = prepare.read_run_info(directory).get("cwd") or args.get("cwd") or ""
        found += spawn_errors.read_spawn_errors(cwd, time.time() - float(args.get("since", 3600.0)) - 1.0)
    return found


def _find_grown_counters(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the InfiniBand error counters that grew since the run was prepared here."""
    return rdma.find_grown(prepare.read_run_info(find_directory(args)).get("ports"))


def _list_addresses(args: dict[str, Any]) -> list[str]:
    """Return the addresses by which other hosts may name this host."""
    found = [text for each in network.list_interfaces(args) if not each["loopback"] for text in each["addresses"]]
    return [text.partition("/")[0].partition("%")[0] for text in found]


_QUICK: dict[str, Callable[[dict[str, Any]], Any]] = {
    "boot_id": _read_boot_id,
    "load": _read_load,
    "memory": _read_memory,
}
_GUARDED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "space": _measure_space,
    "stuck": _find_stuck,
    "errors": _read_error_files,
    "flights": flight_files.read_dumps,
    "ras": nccl_ras.query_run,
    "ports": _find_grown_counters,
    "stacks": lambda args: ask_stacks(dict(args, samples=1, spy=SPY_SECONDS))["ranks"],
    "ends": lambda args: read_last_stacks(find_directory(args)),
    "addresses": _list_addresses,
}
