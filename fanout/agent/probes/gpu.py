"""GPU facts of this host, from the vendor's tools and files. No library is loaded and no GPU context is created."""

from __future__ import annotations

import os

from .. import smi
from . import gpu_topology, rocm, xid
from .probe_tools import FactUnavailable, ToolProcess, read_or_empty, search_path
from .rocm import describe_process

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

_FIELDS = (
    "index", "uuid", "name", "memory.total", "memory.used", "driver_version", "compute_mode", "persistence_mode",
    "ecc.errors.uncorrected.volatile.total", "mig.mode.current", "temperature.gpu", "pcie.link.width.current",
    "pcie.link.width.max", "power.limit",
)  # fmt: skip
_SECONDS = 10.0
_HELD_BACK = ("hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown")
_EXTRA_QUERIES = {  # asked separately: a driver that does not know one of these still answers the others
    "apps": smi.build_nvidia_query(("gpu_uuid", "pid", "used_memory"), "compute-apps"),
    "throttle": smi.build_nvidia_query(("index", *("clocks_event_reasons." + name for name in _HELD_BACK))),
    "throttle-old": smi.build_nvidia_query(("index", *("clocks_throttle_reasons." + name for name in _HELD_BACK))),
    "remapped": smi.build_nvidia_query(("gpu_uuid", "remapped_rows.pending", "remapped_rows.failure"), "remapped-rows"),
    "retired": smi.build_nvidia_query(("uuid", "retired_pages.pending")),
    "recovery": smi.build_nvidia_query(("index", "gpu_recovery_action")),
    "fabric": smi.build_nvidia_query(("index", "fabric.state", "fabric.status")),
}
_ROCM = ["--showproductname", "--showmeminfo", "vram", "--showuniqueid", "--showdriverversion", "--showpids", "--json"]


class _GpuQuery(ToolProcess):
    """The running vendor tool, its vendor, and its other queries that run beside it."""

    vendor = ""
    tool = ""
    path = ""
    apart: dict[str, ToolProcess]
    links: dict[str, ToolProcess]


def start_query(args: dict[str, Any]) -> ToolProcess:
    """Start the vendor's tool. Raises FactUnavailable("no GPU") if this host has neither tool nor device."""
    path = search_path(args) + smi.EXTRA_PATH
    env = dict(os.environ, PATH=path, LC_ALL="C")
    for vendor, tool, words in (
        ("nvidia", "nvidia-smi", smi.build_nvidia_query(_FIELDS)),
        ("amd", "rocm-smi", _ROCM),
        ("ascend", "npu-smi", ["info", "-l"]),
    ):
        _, found = smi.find_tool((tool,), path)
        if found:
            query = _GpuQuery([found, *words], env, _SECONDS)
            query.vendor, query.tool, query.path = vendor, found, path
            asked, joined = (_EXTRA_QUERIES, gpu_topology.QUESTIONS) if vendor == "nvidia" else ({}, {})
            query.apart = {name: ToolProcess([found, *words], env, _SECONDS) for name, words in asked.items()}
            query.links = {name: ToolProcess([found, *words], env, _SECONDS) for name, words in joined.items()}
            return query
    devices = _devices()
    if devices:
        raise FactUnavailable("%s exists, but none of nvidia-smi, rocm-smi and npu-smi is installed" % devices[0])
    raise FactUnavailable("no GPU")


def _devices() -> list[str]:
    names = os.listdir("/dev")
    return ["/dev/" + name for name in sorted(names) if name in ("nvidia0", "kfd", "davinci0")]


def finish_query(query: Any) -> dict[str, Any]:
    """Return the GPU facts from the finished tool. Raises FactUnavailable."""
    try:
        status, text = query.get_output()
    except FactUnavailable as error:  # a hung tool is no missing fact: the GPU or its driver is stuck
        for program in (*query.apart.values(), *query.links.values()):
            program.discard()
        return {"vendor": query.vendor, "gpus": [], "problem": str(error), "processes": [], "driver": ""}
    apart = {name: _read_rows(program) for name, program in query.apart.items()}
    links = gpu_topology.count_links(query.links, len(text.splitlines()))
    if query.vendor == "nvidia":
        return dict(_collect_nvidia(query, status, text, apart), links=links)
    if status != 0:
        raise FactUnavailable("%s: %s" % (query.tool, text.strip()[:200]))
    if query.vendor == "amd":
        return rocm.parse_answer(text)
    gpus = [{"index": str(n), "name": "Ascend NPU"} for n in range(sum("NPU ID" in line for line in text.splitlines()))]
    if not gpus:
        raise FactUnavailable("no GPU")
    return {"vendor": query.vendor, "gpus": gpus, "problem": "", "processes": [], "driver": ""}


def _collect_nvidia(query: Any, status: int, text: str, apart: dict[str, list[list[str]]]) -> dict[str, Any]:
    if status != 0:
        problem = " ".join(text.split())[:300]
        if "No devices were found" in text or not _devices():
            raise FactUnavailable("no GPU")
        return {"vendor": "nvidia", "gpus": [], "problem": problem or "exit status %d" % status, "processes": []}
    gpus = [dict(zip(_FIELDS, row)) for row in smi.split_nvidia_rows(text, len(_FIELDS))]
    if not gpus:
        return {"vendor": "nvidia", "gpus": [], "problem": " ".join(text.split())[:300], "processes": []}
    known: dict[str, Any] = {
        "vendor": "nvidia", "gpus": gpus, "problem": "", "driver": gpus[0]["driver_version"],
        "module": _read_module_version(), "direct": _find_gpudirect(), "processes": _list_processes(apart["apps"]), "throttled": _find_throttled(apart),
        "pending": _find_pending(apart, gpus), "xids": [], "xids_unread": "",
        "recovery": {row[0]: row[1] for row in apart["recovery"] if len(row) == 2},
        "fabric": {row[0]: " ".join(row[1:]) for row in apart["fabric"] if len(row) == 3},
    }  # fmt: skip
    try:
        known["xids"] = xid.read_xids(query.path)
    except FactUnavailable as error:
        known["xids_unread"] = str(error)
    return known


def _read_rows(program: ToolProcess) -> list[list[str]]:
    """Return the cells of an answer; [] if this driver does not know the query or does not answer it."""
    try:
        status, text = program.get_output()
    except FactUnavailable:
        return []
    return smi.split_nvidia_rows(text) if status == 0 else []


def _find_pending(apart: dict[str, list[list[str]]], gpus: list[dict[str, str]]) -> dict[str, str]:
    """Return index -> the problem with its memory's spare rows or pages, in the tool's own words."""
    found = {}
    index = {gpu["uuid"]: gpu["index"] for gpu in gpus}
    for uuid, *cells in apart["remapped"]:
        for name, cell in zip(("pending", "failure"), cells):
            if cell.lower() in ("yes", "1"):
                found[index.get(uuid, "?")] = "row remapping " + name
    for uuid, *cells in apart["retired"]:
        if cells and cells[0].lower() == "yes":
            found[index.get(uuid, "?")] = "page retirement pending"
    return found


def _read_module_version() -> str:
    """Return the version of the loaded kernel module, which lags behind the library's after an upgrade."""
    for word in read_or_empty("/proc/driver/nvidia/version").split():
        if word.count(".") >= 1 and word.replace(".", "").isdigit():
            return word
    return ""


def _find_gpudirect() -> str:
    """Return what enables GPUDirect RDMA: a module beside the driver, or the open driver's dma-buf; else ""."""
    loaded = {line.partition(" ")[0] for line in read_or_empty("/proc/modules").splitlines()}
    beside = sorted(loaded & {"nvidia_peermem", "nv_peer_mem"})
    if beside:
        return beside[0]
    return "dma-buf" if "Open Kernel Module" in read_or_empty("/proc/driver/nvidia/version") else ""


def _list_processes(rows: list[list[str]]) -> list[dict[str, Any]]:
    """Return the processes that compute on the GPUs now. One without a command is another user's or container's."""
    found = []
    for row in rows:
        if len(row) == 3 and row[1].isdigit():
            found.append(describe_process(int(row[1]), row[0], row[2]))
    return found


def _find_throttled(apart: dict[str, list[list[str]]]) -> list[str]:
    """Return the indices of GPUs that heat or power slows down now."""
    rows = apart["throttle"] or apart["throttle-old"]
    return [row[0] for row in rows if any(cell == "Active" for cell in row[1:])]
