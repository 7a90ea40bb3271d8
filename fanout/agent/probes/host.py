"""Host facts: identity, user, limits, memory, CPUs, kernel, session, environment."""

from __future__ import annotations

import os
import pwd
import re
import resource
import socket
import sys
import time

from .probe_tools import read_or_empty, read_start

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

_PTRACE = 19  # CAP_SYS_PTRACE in linux/capability.h
_HAZARDS = (
    "PET_", "NCCL_", "GLOO_", "TORCH_", "TORCHELASTIC_", "CUDA_", "HIP_", "ROCR_", "ASCEND_", "OMP_", "MKL_",
)  # fmt: skip
_HAZARD_NAMES = {
    "NNODES", "NODE_RANK", "NPROC_PER_NODE", "MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE",
    "LOCAL_WORLD_SIZE", "GROUP_RANK", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "VIRTUAL_ENV", "CONDA_PREFIX", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY",
    "TMPDIR", "PYTHONUSERBASE", "HF_HOME", "HF_HUB_OFFLINE",
}  # fmt: skip


def collect_identity(args: dict[str, Any]) -> dict[str, Any]:
    """Return the host's identity. ``host_id`` is the machine as its programs see it: a kernel's boot and a network
    namespace.

    FANOUT_HOST_ID overrides it, for hosts that are simulated on one machine.
    """
    boot_id = read_start("/proc/sys/kernel/random/boot_id").strip()
    netns = os.readlink("/proc/self/ns/net")
    return {
        "hostname": socket.gethostname(),
        "host_id": os.environ.get("FANOUT_HOST_ID") or "%s/%s" % (boot_id, netns),
        "given": bool(os.environ.get("FANOUT_HOST_ID")),
        "boot_id": boot_id,
        "netns": netns,
        "pid_namespace": os.readlink("/proc/self/ns/pid"),
        "machine_id": read_or_empty("/etc/machine-id").strip(),
    }


def collect_user(args: dict[str, Any]) -> dict[str, Any]:
    """Return the login's user: name, uid, groups, umask, home, shell, and what it may do.

    ``has_name`` is False if Python cannot name the user: getpass.getuser of the standard library raises an exception.
    """
    mask = os.umask(0o077)
    os.umask(mask)
    try:
        entry = pwd.getpwuid(os.getuid())
        name, home, shell = entry.pw_name, entry.pw_dir, entry.pw_shell
    except KeyError:
        name, home, shell = "", os.path.expanduser("~"), ""
    return {
        "name": name,
        "uid": os.getuid(),
        "gid": os.getgid(),
        "groups": sorted(os.getgroups()),
        "umask": mask,
        "home": home,
        "shell": shell,
        "has_name": bool(name) or any(map(os.environ.get, ("LOGNAME", "USER", "LNAME", "USERNAME"))),
        "may_trace": _has_capability(_PTRACE),
    }


def _has_capability(number: int) -> bool:
    """Return whether this process has a capability; root in a container lacks most."""
    for line in read_or_empty("/proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def collect_agent(args: dict[str, Any]) -> dict[str, Any]:
    """Return the Python that runs the agent (the task's Python is under ``software``)."""
    return {"version": list(sys.version_info[:3]), "executable": sys.executable}


def collect_limits(args: dict[str, Any]) -> dict[str, Any]:
    """Return the soft limits that train.sh inherits; -1 is unlimited."""
    names = {"nofile": "RLIMIT_NOFILE", "nproc": "RLIMIT_NPROC", "memlock": "RLIMIT_MEMLOCK", "stack": "RLIMIT_STACK",
             "as": "RLIMIT_AS", "cpu": "RLIMIT_CPU", "fsize": "RLIMIT_FSIZE", "core": "RLIMIT_CORE"}  # fmt: skip
    return {short: resource.getrlimit(getattr(resource, name))[0] for short, name in names.items()}


def collect_memory(args: dict[str, Any]) -> dict[str, Any]:
    """Return bytes of memory, and the smallest limit that a control group sets for this process (0: none)."""
    rows = {}
    for line in read_start("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        rows[name] = int(rest.split()[0]) * 1024
    return {
        "total": rows["MemTotal"],
        "available": rows.get("MemAvailable", rows["MemFree"]),
        "swap_used": rows.get("SwapTotal", 0) - rows.get("SwapFree", 0),
        "cap": _read_cgroup_limit("memory.max"),
        "pids_cap": _read_cgroup_limit("pids.max"),
    }


def _read_cgroup_limit(file: str) -> int:
    """Return the smallest value of ``file`` from our control group (version 2) to the root; 0 without a limit."""
    inside = ""
    for line in read_or_empty("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            inside = line[3:].strip("/")
    least = 0
    while True:
        text = read_or_empty(os.path.join("/sys/fs/cgroup", inside, file)).strip()
        if text.isdigit():
            least = min(least, int(text)) if least else int(text)
        if not inside:
            return least
        inside = os.path.dirname(inside)


def collect_cpu(args: dict[str, Any]) -> dict[str, Any]:
    """Return the CPU counts, the load and the frequency governor."""
    usable = len(os.sched_getaffinity(0))
    governor = read_or_empty("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
    return {"count": os.cpu_count() or usable, "usable": usable, "load": os.getloadavg()[0], "governor": governor}


def collect_kernel(args: dict[str, Any]) -> dict[str, Any]:
    """Return the kernel's release, uptime and settings."""
    system = os.uname()
    name = ""
    for line in read_or_empty("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            name = line.partition("=")[2].strip('"')
    return {
        "release": system.release, "machine": system.machine, "system": name,
        "up": float(read_start("/proc/uptime").split()[0]),
        "reboot_required": os.path.exists("/var/run/reboot-required"),
        "ptrace_scope": read_or_empty("/proc/sys/kernel/yama/ptrace_scope").strip(),
        "core_pattern": read_or_empty("/proc/sys/kernel/core_pattern").strip(),
        "log_barred": _explain_log_barred(),
        "numa_balancing": read_or_empty("/proc/sys/kernel/numa_balancing").strip() not in ("", "0"),
    }  # fmt: skip


def _explain_log_barred() -> str:
    """Return why this user cannot read the kernel log, from the kernel or from the journal; "" if the user can."""
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
        return ""
    except OSError as error:
        reason = "/dev/kmsg: %s" % error.strerror
    machine = read_or_empty("/etc/machine-id").strip() or "-"
    for folder in ("/var/log/journal", "/run/log/journal"):
        if os.access("%s/%s/system.journal" % (folder, machine), os.R_OK):
            return ""
    restricted = read_or_empty("/proc/sys/kernel/dmesg_restrict").strip() == "1"
    return "kernel.dmesg_restrict=1" if restricted else reason


def collect_session(args: dict[str, Any]) -> dict[str, Any]:
    """Return what logind does when the user's last session ends: it may wipe /dev/shm (RemoveIPC) or kill all
    processes."""
    settings = {"RemoveIPC": True, "KillUserProcesses": False}  # systemd's own defaults
    files = ["/etc/systemd/logind.conf"]
    for folder in ("/usr/lib/systemd/logind.conf.d", "/run/systemd/logind.conf.d", "/etc/systemd/logind.conf.d"):
        if os.path.isdir(folder):
            files += sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".conf"))
    for file in files:
        for line in read_or_empty(file).splitlines():
            name, _, value = line.partition("=")
            if name.strip() in settings and value.strip():
                settings[name.strip()] = value.strip().lower() in ("yes", "true", "on", "1")
    name = collect_user(args)["name"]
    return {
        "logind": os.path.isdir("/run/systemd/system") and os.path.isdir("/run/systemd/sessions"),
        "linger": os.path.exists("/var/lib/systemd/linger/" + name),
        "remove_ipc": settings["RemoveIPC"],
        "kill_user_processes": settings["KillUserProcesses"],
        "system_user": os.getuid() < 1000,
    }


def collect_environment(args: dict[str, Any]) -> dict[str, str]:
    """Return the login's variables that affect training. Others, and passwords in URLs, never leave the host."""
    return {
        name: re.sub(r"//[^/@]*@", "//***@", value)
        for name, value in sorted(os.environ.items())
        if name in _HAZARD_NAMES or name.startswith(_HAZARDS)
    }


def find_stuck(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return processes that are in uninterruptible sleep in two samples 50 ms apart: a busy disk is not a stuck one."""
    sleepers = _find_sleepers()
    if sleepers:
        time.sleep(0.05)
        again = _find_sleepers()
        sleepers = {pid: what for pid, what in sleepers.items() if again.get(pid) == what}
    return [
        {"pid": pid, "command": what, "wchan": read_or_empty("/proc/%d/wchan" % pid).strip("\0 \n0")}
        for pid, what in sorted(sleepers.items())[:8]
    ]


def _find_sleepers() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            head, _, rest = read_or_empty("/proc/%s/stat" % name).rpartition(")")
            if rest[1:2] == "D":
                found[int(name)] = head.partition("(")[2]
    return found


def read_age(pid: int) -> float | None:
    """Return the seconds since a process began; None if it has ended."""
    try:
        ticks = int(read_start("/proc/%d/stat" % pid).rpartition(")")[2].split()[19])
        return round(float(read_start("/proc/uptime").split()[0]) - ticks / os.sysconf("SC_CLK_TCK"), 1)
    except (OSError, ValueError, IndexError):
        return None
