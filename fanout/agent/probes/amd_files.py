"""AMD GPUs from files of the kernel: the driver's in /sys/class/drm, and those of its compute part in /sys/class/kfd.

rocm-smi reads the same files, but each start of it takes a large part of a second. The kernel's documentation of amdgpu
names the files and their units.
"""

from __future__ import annotations

import os
import struct

from .probe_tools import read_or_empty

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any


ROOT = "/sys/class"
MIB = 1 << 20
# struct gpu_metrics_v1_3 in the kernel's drivers/gpu/drm/amd/include/kgd_pp_interface.h: it ends with indep_throttle_status.
# The newer formats 1.4 and 1.5 have a field whose bits depend on the model, so they are not read.
METRICS_FORMAT, METRICS_SIZE = (1, 3), 120
# Bits of indep_throttle_status in the kernel's amdgpu_smu.h. The bits of power and current limits are set under full load.
HEAT_BITS = range(32, 48)


def list_cards(root: str = "") -> list[tuple[str, str]]:
    """Return (directory, id of the compute driver) of each GPU, in the order of the compute driver's nodes."""
    root = root or ROOT
    nodes = os.path.join(root, "kfd/kfd/topology/nodes")
    try:
        names = sorted((name for name in os.listdir(nodes) if name.isdigit()), key=int)
    except OSError:
        return []
    found = []
    for name in names:
        kfd_id = read_or_empty(os.path.join(nodes, name, "gpu_id")).strip()
        rows = (line.split() for line in read_or_empty(os.path.join(nodes, name, "properties")).splitlines())
        minor = next((row[1] for row in rows if row[:1] == ["drm_render_minor"] and len(row) == 2), "")
        directory = os.path.join(root, "drm", "renderD" + minor, "device")
        if kfd_id not in ("", "0") and os.path.isdir(directory):
            found.append((directory, kfd_id))
    return found


def read_card(card: tuple[str, str]) -> dict[str, Any]:
    """Return the usage of one GPU; what the driver does not report is None."""
    directory = card[0]
    errors = _read_errors(os.path.join(directory, "ras/umc_err_count"))
    monitor = _find_monitor(directory)
    return {
        "name": read_or_empty(os.path.join(directory, "product_name")).strip() or "AMD GPU",
        "util": _read_number(directory, "gpu_busy_percent"),
        "used": _read_number(directory, "mem_info_vram_used", MIB),
        "total": _read_number(directory, "mem_info_vram_total", MIB),
        "temp": _read_first(monitor, ("temp2_input", "temp1_input"), 1000),  # of the junction, else of the edge
        "watts": _read_first(monitor, ("power1_average", "power1_input"), 1000000),
        "limit": _read_first(monitor, ("power1_cap",), 1000000),
        "ecc": errors,
        "throttled": _read_throttling(os.path.join(directory, "gpu_metrics")),
    }


def list_users(cards: list[tuple[str, str]], root: str = "") -> list[tuple[str, int, float]]:
    """Return (GPU, pid, MiB) of each process that has memory on a GPU."""
    places = os.path.join(root or ROOT, "kfd/kfd/proc")
    try:
        pids = [name for name in os.listdir(places) if name.isdigit()]
    except OSError:
        return []
    found = []
    for pid in sorted(pids, key=int):
        for at, (_, kfd_id) in enumerate(cards):
            used = _read_number(os.path.join(places, pid), "vram_" + kfd_id, MIB)
            if used:
                found.append((str(at), int(pid), used))
    return found


def _find_monitor(directory: str) -> str:
    """Return the directory of the sensors; "" without one."""
    place = os.path.join(directory, "hwmon")
    try:
        return os.path.join(place, sorted(os.listdir(place))[0])
    except (OSError, IndexError):
        return ""


def _read_first(directory: str, names: tuple[str, ...], unit: int) -> float | None:
    values = (_read_number(directory, name, unit) for name in names) if directory else ()
    return next((value for value in values if value is not None), None)


def _read_number(directory: str, name: str, unit: int = 1) -> float | None:
    text = read_or_empty(os.path.join(directory, name)).strip()
    return int(text) // unit if text.lstrip("-").isdigit() else None


def _read_throttling(path: str) -> list[str] | None:
    """Return why the GPU is slowed down; None if the driver does not report it in a format that is known."""
    try:
        with open(path, "rb") as file:
            table = file.read(METRICS_SIZE)
    except OSError:
        return None
    if len(table) < METRICS_SIZE or struct.unpack_from("<HBB", table)[1:] != METRICS_FORMAT:
        return None
    status = struct.unpack_from("<Q", table, METRICS_SIZE - 8)[0]
    if status == (1 << 64) - 1:  # the driver sets all bits of a field that the model does not report
        return None
    return ["thermal"] if any(status >> bit & 1 for bit in HEAT_BITS) else []


def _read_errors(path: str) -> int | None:
    """Return the uncorrectable errors of the memory: ``ue: 0``."""
    for line in read_or_empty(path).splitlines():
        name, _, count = line.partition(":")
        if name.strip() == "ue" and count.strip().isdigit():
            return int(count)
    return None
