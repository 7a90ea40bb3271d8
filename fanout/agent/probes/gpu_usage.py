"""Usage of the GPUs of this host, from the vendor's tool or from files of the kernel, for one sample after the other.

Each source has ``get_descriptors``, ``is_settled``, and ``read_gpus``, which returns (GPUs by index, [GPU, pid, MiB] of
each process, why they are unknown). Sizes are in MiB.
"""

from __future__ import annotations

import os
import time

from .. import smi
from . import amd_files
from .probe_tools import FactUnavailable
from .rocm import parse_answer
from .tool_loop import ToolLoop

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple

    Gpus = Dict[str, Dict[str, Any]]
    OnGpu = Tuple[str, int, float]
    GpuReading = Tuple[Gpus, List[OnGpu], str]

FIELDS = (
    "index",
    "uuid",
    "name",
    "pci.bus_id",
    "utilization.gpu",
    "memory.used",
    "memory.total",
    "temperature.gpu",
    "power.draw",
    "power.limit",
    "ecc.errors.uncorrected.volatile.total",
)
REASONS = ("hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "sw_thermal_slowdown")
APPS = ("gpu_uuid", "pid", "used_memory")
STALE_SECONDS = 10.0  # a GPU whose line is older does not answer
GONE_ROUNDS = 2.5  # a process that is not printed for so many rounds has ended
ROCM = ("--showproductname", "--showuse", "--showmeminfo", "vram", "--showtemp", "--showpower", "--showpids", "--json")


def find_source(path: str, every: float) -> Any:
    """Return the source of this host, or one without GPUs."""
    env = dict(os.environ, PATH=path, LC_ALL="C")
    tool = smi.find_tool(("nvidia-smi",), path)[1]
    if tool:
        return NvidiaLoop(tool, env, every)
    if amd_files.list_cards():
        return AmdFiles()
    for name, parse in (("rocm-smi", _parse_rocm), ("npu-smi", _parse_npu)):
        tool = smi.find_tool((name,), path)[1]
        if tool:
            return RepeatedTool([tool, *(ROCM if name == "rocm-smi" else ("info",))], env, every, parse)
    return NoGpu()


class NoGpu:
    """Source of a host without GPUs."""

    is_settled = True

    def get_descriptors(self) -> list[int]:
        """Return no descriptor."""
        return []

    def read_gpus(self) -> GpuReading:
        """Return no GPU."""
        return {}, [], ""


class AmdFiles(NoGpu):
    """AMD GPUs, from files of the kernel."""

    def read_gpus(self) -> GpuReading:
        """Return the GPUs and the processes on them."""
        cards = amd_files.list_cards()
        return {str(at): amd_files.read_card(card) for at, card in enumerate(cards)}, amd_files.list_users(cards), ""


class RepeatedTool:
    """A tool without a loop of its own."""

    def __init__(self, argv: list[str], env: dict[str, str], every: float, parse: Any) -> None:
        self._parse = parse
        self._loop = ToolLoop([argv], env, lambda line: bool(line.strip()), repeats=every)

    @property
    def is_settled(self) -> bool:
        """Return whether the tool has answered or failed."""
        return self._loop.is_settled

    def get_descriptors(self) -> list[int]:
        """Return the descriptors to wait for."""
        return self._loop.get_descriptors()

    def read_gpus(self) -> GpuReading:
        """Return the last answer of the tool."""
        self._loop.read_lines()
        text = self._loop.get_text()
        if not text:
            return {}, [], self._loop.problem
        gpus, processes = self._parse(text)
        return gpus, processes, "" if gpus else " ".join(text.split())[:300]


class NvidiaLoop:
    """Two nvidia-smi that loop: one prints the GPUs, the other the processes on them."""

    def __init__(self, tool: str, env: dict[str, str], every: float) -> None:
        self._round = max(1.0, every)
        loop = ["-l", "%d" % self._round]
        prefixes = ("clocks_event_reasons", "clocks_throttle_reasons")  # of newer and of older drivers
        names = [FIELDS + tuple("%s.%s" % (prefix, name) for name in REASONS) for prefix in prefixes] + [FIELDS]
        queries = [[tool, *smi.build_nvidia_query(fields), *loop] for fields in names]
        self._cards = ToolLoop(queries, env, lambda line: _split_row(line, len(FIELDS))[:1] != [])
        apps = [tool, *smi.build_nvidia_query(APPS, "compute-apps"), *loop]
        self._apps = ToolLoop(
            [apps], env, lambda line: len(line.split(",")) == len(APPS) and line[:3] in ("GPU", "MIG")
        )
        self._gpus: dict[str, tuple[float, dict[str, Any]]] = {}
        self._index: dict[str, str] = {}  # UUID -> index
        self._on: dict[tuple[str, int], tuple[float, float]] = {}  # (GPU, pid) -> (time, MiB)

    @property
    def is_settled(self) -> bool:
        """Return whether the GPUs are known, or the tool has failed."""
        return self._cards.is_settled

    def get_descriptors(self) -> list[int]:
        """Return the descriptors to wait for."""
        return self._cards.get_descriptors() + self._apps.get_descriptors()

    def read_gpus(self) -> GpuReading:
        """Return the newest line of each GPU and process."""
        now = time.monotonic()
        for line in self._cards.read_lines():
            cells = _split_row(line, len(FIELDS))
            known = dict(zip(FIELDS, cells))
            self._index[known["uuid"]] = known["index"]
            self._gpus[known["index"]] = now, _build_gpu(known, cells[len(FIELDS) :])
        for line in self._apps.read_lines():
            uuid, pid, used = [cell.strip() for cell in line.split(",")]
            if pid.isdigit():
                self._on[uuid, int(pid)] = now, smi.parse_number(used) or 0.0
        late = now - GONE_ROUNDS * self._round
        self._on = {key: seen for key, seen in self._on.items() if seen[0] >= late}
        if not self._gpus:
            problem = self._cards.problem
            is_absent = "No devices were found" in problem or not os.path.exists("/dev/nvidia0")
            return {}, [], "" if is_absent and not self._cards.is_hung else problem
        processes = [(self._index.get(uuid, ""), pid, used) for (uuid, pid), (_, used) in self._on.items()]
        return self._mark_stale(now), processes, self._cards.problem

    def _mark_stale(self, now: float) -> Gpus:
        """Return the GPUs. One that is no longer printed keeps its name only."""
        gpus: Gpus = {}
        for index, (at, gpu) in self._gpus.items():
            is_stale = now - at > max(STALE_SECONDS, 3 * self._round)
            gpus[index] = {"name": gpu["name"], "pci": gpu["pci"], "lost": True} if is_stale else gpu
        return gpus


def _split_row(line: str, least: int) -> list[str]:
    """Return the cells of a GPU's line; [] for a message of the tool."""
    cells = [cell.strip() for cell in line.split(",")]
    return cells if len(cells) >= least and cells[0].isdigit() else []


def _build_gpu(known: dict[str, str], reasons: list[str]) -> dict[str, Any]:
    errors = smi.parse_number(known["ecc.errors.uncorrected.volatile.total"])
    active = [name for name, cell in zip(REASONS, reasons) if cell == "Active"]
    return {
        "name": known["name"],
        "pci": known["pci.bus_id"],
        "util": smi.parse_number(known["utilization.gpu"]),
        "used": smi.parse_number(known["memory.used"]),
        "total": smi.parse_number(known["memory.total"]),
        "temp": smi.parse_number(known["temperature.gpu"]),
        "watts": _round(smi.parse_number(known["power.draw"])),
        "limit": _round(smi.parse_number(known["power.limit"])),
        "ecc": None if errors is None else int(errors),
        "throttled": active if reasons else None,
        "lost": False,
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value)


def _parse_rocm(text: str) -> tuple[Gpus, list[OnGpu]]:
    try:
        known = parse_answer(text)
        cards = smi.parse_rocm(text)[0]
    except (FactUnavailable, ValueError):
        return {}, []
    gpus = {}
    for at, (row, card) in enumerate(zip(known["gpus"], cards)):
        gpus[str(at)] = {
            "name": row["name"],
            "util": _find_cell(card, "GPU use"),
            "used": smi.parse_number(row["memory.used"]),
            "total": smi.parse_number(row["memory.total"]),
            "temp": _find_cell(card, "Temperature"),
            "watts": _round(_find_cell(card, "Power (W)")),
        }
    return gpus, [("", row["pid"], smi.parse_number(row["memory"]) or 0.0) for row in known["processes"]]


def _find_cell(card: dict[str, str], words: str) -> float | None:
    """Return the first number under a key with these words."""
    return next(
        (number for key, cell in card.items() if words in key and (number := smi.parse_number(cell)) is not None), None
    )


def _parse_npu(text: str) -> tuple[Gpus, list[OnGpu]]:
    chips, processes = smi.parse_npu_info(text)
    gpus = {}
    for at, chip in enumerate(chips):
        known = {key: chip[key] for key in ("name", "util", "used", "total", "temp")}
        gpus[str(at)] = dict(known, watts=_round(chip["watts"]), health=chip["health"], idle_memory=True)
    return gpus, [("" if row["gpu"] is None else str(row["gpu"]), row["pid"], row["used"]) for row in processes]
