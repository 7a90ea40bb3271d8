"""The accelerators of this host, from their own tools and files; no library is loaded and no context is made."""

from __future__ import annotations

import os
from typing import Any

from .probes_files import which
from .probes_host import age_of
from .probes_tools import NotHad, Program, read_or_empty, search_path

_FIELDS = (
    "index", "uuid", "name", "memory.total", "memory.used", "driver_version", "compute_mode", "persistence_mode",
    "ecc.errors.uncorrected.volatile.total", "mig.mode.current", "temperature.gpu", "pcie.link.width.current",
    "pcie.link.width.max",
)  # fmt: skip
_SECONDS = 10.0


class _Query(Program):
    """The tool at work, and which maker's it is."""

    vendor = ""
    tool = ""
    env: dict[str, str]


def start(args: dict[str, Any]) -> Program:
    """Begin to ask the maker's tool. NotHad("no GPU") where this host has neither tool nor device."""
    path = search_path(args)
    path = path + ":/usr/bin:/usr/local/cuda/bin:/opt/rocm/bin:/usr/local/sbin"
    env = dict(os.environ, PATH=path, LC_ALL="C")
    for vendor, tool, words in (
        ("nvidia", "nvidia-smi", ["--query-gpu=" + ",".join(_FIELDS), "--format=csv,noheader,nounits"]),
        ("amd", "rocm-smi", ["--showproductname", "--csv"]),
        ("ascend", "npu-smi", ["info", "-l"]),
    ):
        found = which(tool, path)
        if found:
            query = _Query([found, *words], env, _SECONDS)
            query.vendor, query.tool, query.env = vendor, found, env
            return query
    devices = _devices()
    if devices:
        raise NotHad("%s is there, but no tool to ask it (nvidia-smi, rocm-smi, npu-smi)" % devices[0])
    raise NotHad("no GPU")


def _devices() -> list[str]:
    names = os.listdir("/dev")
    return ["/dev/" + name for name in sorted(names) if name in ("nvidia0", "kfd", "davinci0")]


def finish(query: Any) -> dict[str, Any]:
    status, text = query.output()
    if query.vendor == "nvidia":
        return _nvidia(query, status, text)
    if status != 0:
        raise NotHad("%s: %s" % (query.tool, text.strip()[:200]))
    if query.vendor == "amd":
        rows = [line for line in text.splitlines() if line.startswith("card")]
        gpus = [{"index": str(number), "name": ",".join(row.split(",")[1:2])} for number, row in enumerate(rows)]
    else:
        count = sum("NPU ID" in line for line in text.splitlines())
        gpus = [{"index": str(number), "name": "Ascend NPU"} for number in range(count)]
    if not gpus:
        raise NotHad("no GPU")
    return {"vendor": query.vendor, "gpus": gpus, "problem": "", "processes": [], "driver": ""}


def _nvidia(query: Any, status: int, text: str) -> dict[str, Any]:
    if status != 0:
        problem = " ".join(text.split())[:300]
        if "No devices were found" in text or not _devices():
            raise NotHad("no GPU")
        return {"vendor": "nvidia", "gpus": [], "problem": problem or "exit status %d" % status, "processes": []}
    gpus = []
    for line in text.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) == len(_FIELDS):
            gpus.append(dict(zip(_FIELDS, values)))
    if not gpus:
        return {"vendor": "nvidia", "gpus": [], "problem": " ".join(text.split())[:300], "processes": []}
    return {
        "vendor": "nvidia", "gpus": gpus, "problem": "", "driver": gpus[0]["driver_version"],
        "module": _module_version(), "processes": _processes(query),
        "throttled": _throttled(query),
    }  # fmt: skip


def _module_version() -> str:
    """The version of the loaded kernel module, which an upgrade leaves behind the library's."""
    for word in read_or_empty("/proc/driver/nvidia/version").split():
        if word.count(".") >= 1 and word.replace(".", "").isdigit():
            return word
    return ""


def _ask(query: Any, *words: str) -> list[list[str]]:
    """Rows of one more query; none where this driver does not know the question."""
    try:
        status, text = Program([query.tool, *words, "--format=csv,noheader,nounits"], query.env, _SECONDS).output()
    except NotHad:
        return []
    return [[cell.strip() for cell in line.split(",")] for line in text.splitlines()] if status == 0 else []


def _processes(query: Any) -> list[dict[str, Any]]:
    """Who computes on the GPUs now. A pid without a command belongs to another container or user."""
    found = []
    for row in _ask(query, "--query-compute-apps=gpu_uuid,pid,used_memory"):
        if len(row) != 3 or not row[1].isdigit():
            continue
        pid = int(row[1])
        command = read_or_empty("/proc/%d/cmdline" % pid).replace("\0", " ").strip()
        found.append({
            "gpu": row[0], "pid": pid, "memory": row[2], "command": command[:120],
            "uid": _uid(pid), "user": _user(pid), "age": age_of(pid),
        })  # fmt: skip
    return found


def _uid(pid: int) -> int | None:
    try:
        return os.stat("/proc/%d" % pid).st_uid
    except OSError:
        return None


def _user(pid: int) -> str:
    import pwd

    uid = _uid(pid)
    try:
        return pwd.getpwuid(uid).pw_name if uid is not None else ""
    except KeyError:
        return str(uid)


def _throttled(query: Any) -> list[str]:
    """Indices of GPUs that the hardware holds back now."""
    for family in ("clocks_event_reasons", "clocks_throttle_reasons"):
        names = ["%s.%s" % (family, reason) for reason in ("hw_thermal_slowdown", "hw_power_brake_slowdown")]
        rows = _ask(query, "--query-gpu=index," + ",".join(names))
        if rows:
            return [row[0] for row in rows if any(cell == "Active" for cell in row[1:])]
    return []
