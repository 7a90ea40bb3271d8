"""Availability of this host for a new run: who holds its GPUs and a port now. It is asked every few seconds, so it starts
few programs."""

from __future__ import annotations

import errno
import os

from .. import prepare, run_files, smi, state_dir
from . import rocm, runs, tcp
from .host import read_age
from .other_runs import list_other_runs
from .probe_tools import FactUnavailable, ToolProcess, search_path

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

_FIELDS = ("index", "uuid", "memory.used")
_APPS = ("gpu_uuid", "pid", "used_memory")
_SECONDS = 10.0


def ask_availability(args: dict[str, Any]) -> dict[str, Any]:
    """Return the GPUs with the processes on them, the live runs of all users with their claims, and the port's holder."""
    gpus, processes, problem = _list_gpus(search_path(args) + smi.EXTRA_PATH)
    return {
        "gpus": gpus,
        "processes": processes,
        "problem": problem,
        "runs": _list_own_runs(),
        "other_runs": list_other_runs({}),
        "port": _find_port_holder(int(args["port"])),
    }


def _list_own_runs() -> list[dict[str, Any]]:
    """Return this user's live runs here, with their age in seconds and their task."""
    found = []
    for entry in runs.list_live({}):
        directory = state_dir.find_run(entry["run"], entry["node"])
        keeper = run_files.read_status(directory).get("keeper", 0) if directory else 0
        title = prepare.read_run_info(directory).get("title", "") if directory else ""
        found.append(dict(entry, age=read_age(keeper), title=str(title)))
    return found


def _find_port_holder(port: int) -> dict[str, Any] | None:
    """Return who prevents a bind to the port, as far as this user can see; None if it can be bound."""
    try:
        tcp.open_listener(port).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return tcp.find_owner(port)
        return {"error": error.strerror or str(error)}
    return None


def _list_gpus(path: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """Return (the GPUs, the processes on them, why they are unknown). A process whose GPU is unknown has the GPU ""."""
    env = dict(os.environ, PATH=path, LC_ALL="C")
    try:
        if smi.find_tool(("nvidia-smi",), path)[1]:
            return _list_nvidia(path, env)
        if smi.find_tool(("rocm-smi",), path)[1]:
            return _list_amd(path, env)
        if smi.find_tool(("npu-smi",), path)[1]:
            return _list_ascend(path, env)
    except FactUnavailable as error:
        return [], [], str(error)
    return [], [], ""


def _list_nvidia(path: str, env: dict[str, str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    tool = smi.find_tool(("nvidia-smi",), path)[1]
    query = ToolProcess([tool, *smi.build_nvidia_query(_FIELDS)], env, _SECONDS)
    apps = ToolProcess([tool, *smi.build_nvidia_query(_APPS, "compute-apps")], env, _SECONDS)
    status, text = query.get_output()
    rows = smi.split_nvidia_rows(text, len(_FIELDS))
    listed = smi.split_nvidia_rows(apps.get_output()[1], len(_APPS))
    if status != 0 or not rows:
        is_absent = "No devices were found" in text or not os.path.exists("/dev/nvidia0")
        return [], [], "" if is_absent else " ".join(text.split())[:300]
    gpus = [{"index": index, "uuid": uuid, "used": smi.parse_number(used)} for index, uuid, used in rows]
    return gpus, [rocm.describe_process(int(pid), gpu, used) for gpu, pid, used in listed if pid.isdigit()], ""


def _list_amd(path: str, env: dict[str, str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    tool = smi.find_tool(("rocm-smi",), path)[1]
    status, text = ToolProcess([tool, "--showmeminfo", "vram", "--showpids", "--json"], env, _SECONDS).get_output()
    if status != 0:
        return [], [], " ".join(text.split())[:300]
    known = rocm.parse_answer(text)
    gpus = [{"index": row["index"], "uuid": "", "used": smi.parse_number(row["memory.used"])} for row in known["gpus"]]
    return gpus, known["processes"], ""


def _list_ascend(path: str, env: dict[str, str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """Return the chips without their used memory: an idle chip reports more than 3 GB, and every process is listed."""
    tool = smi.find_tool(("npu-smi",), path)[1]
    status, text = ToolProcess([tool, "info"], env, _SECONDS).get_output()
    chips, listed = smi.parse_npu_info(text)
    if status != 0 or not chips:
        return [], [], " ".join(text.split())[:300] or "npu-smi info printed nothing"
    gpus = [{"index": str(at), "uuid": str(at), "used": None} for at in range(len(chips))]
    rows = [(row["pid"], "" if row["gpu"] is None else str(row["gpu"]), "%d" % row["used"]) for row in listed]
    return gpus, [rocm.describe_process(*row) for row in rows], ""
