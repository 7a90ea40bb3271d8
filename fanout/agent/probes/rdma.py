"""InfiniBand and RoCE ports as the kernel shows them: state, error counters, GIDs."""

from __future__ import annotations

import ctypes
import os

from .probe_tools import read_or_empty

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

ROOT = "/sys/class/infiniband"
_DEVICES_DIR = "/dev/infiniband"
_MOST_GIDS = 16  # a port has up to 256 slots; those in use come first
# Effects of a bad cable or switch on a link, and (in hw_counters) on the sender. Other counters count normal traffic.
_COUNTERS = (
    "counters/link_downed",
    "counters/symbol_error",
    "counters/port_rcv_errors",
    "counters/link_error_recovery",
    "hw_counters/local_ack_timeout_err",
    "hw_counters/packet_seq_err",
)


def list_ports(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the facts of all RDMA ports; [] if there is no such device."""
    found: list[dict[str, Any]] = []
    for name, folder in _find_ports():
        found.append({
            "port": name,
            "state": read_or_empty(folder + "/state").partition(":")[2].strip(),
            "rate": read_or_empty(folder + "/rate").strip(),
            "link": read_or_empty(folder + "/link_layer").strip(),
            "errors": _read_errors(folder),
            "gids": _read_gids(folder),
        })  # fmt: skip
    if found:
        usable, library = _is_usable(), _has_library()
        for row in found:
            row.update(usable=usable, library=library)
    return found


def read_counters() -> dict[str, dict[str, int]]:
    """Return port -> its error counters. They only grow, so two samples show what a run added."""
    return {name: _read_errors(folder) for name, folder in _find_ports()}


def find_grown(before: Any) -> list[dict[str, Any]]:
    """Return the counters that are larger than in ``before`` (an earlier result of ``read_counters``)."""
    found = []
    for name, now in read_counters().items():
        then = before.get(name) if isinstance(before, dict) else None
        for counter, value in now.items():
            if isinstance(then, dict) and value > int(then.get(counter, value)):
                found.append({"port": name, "counter": counter, "more": value - int(then[counter])})
    return found


def _find_ports() -> list[tuple[str, str]]:
    """Return (``mlx5_0/1``, its directory) of all ports."""
    found = []
    for device in sorted(os.listdir(ROOT)) if os.path.isdir(ROOT) else ():
        folder = os.path.join(ROOT, device, "ports")
        for port in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            found.append(("%s/%s" % (device, port), os.path.join(folder, port)))
    return found


def _read_errors(folder: str) -> dict[str, int]:
    found = {}
    for path in _COUNTERS:
        text = read_or_empty(os.path.join(folder, path)).strip()
        if text.isdigit():
            found[path.partition("/")[2]] = int(text)
    return found


def _read_gids(folder: str) -> dict[str, str]:
    """Return index -> ``RoCE v2 IPv4``, as NCCL_IB_GID_INDEX counts. Unused indices are left out."""
    found = {}
    for index in range(_MOST_GIDS):
        gid = read_or_empty("%s/gids/%d" % (folder, index)).strip()
        kind = read_or_empty("%s/gid_attrs/types/%d" % (folder, index)).strip()
        if gid.replace(":", "").strip("0") and kind:
            found[str(index)] = "%s %s" % (kind, _classify_gid(gid))
    return found


def _classify_gid(gid: str) -> str:
    if gid.startswith("0000:0000:0000:0000:0000:ffff:"):
        return "IPv4"
    return "link-local" if gid.startswith("fe80:") else "IPv6"


def _is_usable() -> bool:
    """Return whether this user may open a port."""
    names = os.listdir(_DEVICES_DIR) if os.path.isdir(_DEVICES_DIR) else []
    return any(
        os.access(os.path.join(_DEVICES_DIR, name), os.R_OK | os.W_OK) for name in names if name.startswith("uverbs")
    )


def _has_library() -> bool:
    """Return whether NCCL will find libibverbs. Without it, NCCL uses sockets and logs nothing."""
    try:
        ctypes.CDLL("libibverbs.so.1")
    except OSError:
        return False
    return True
