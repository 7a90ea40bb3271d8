"""InfiniBand and RoCE ports as the kernel shows them: state, error counters, the addresses that a peer may name."""

from __future__ import annotations

import ctypes
import os

from .probes_tools import read_or_empty

TYPE_CHECKING = False  # what typing says, without the price of importing it on a host
if TYPE_CHECKING:
    from typing import Any

ROOT = "/sys/class/infiniband"
_VERBS = "/dev/infiniband"
_MOST_GIDS = 16  # a port has up to 256 places for them; those in use come first
# What a cable or a switch does to a link, and (in hw_counters) what it costs the sender. Others count normal traffic.
_COUNTERS = (
    "counters/link_downed", "counters/symbol_error", "counters/port_rcv_errors", "counters/link_error_recovery",
    "hw_counters/local_ack_timeout_err", "hw_counters/packet_seq_err",
)  # fmt: skip


def infiniband(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Every RDMA port, with what its files say; an empty list where there is no such device."""
    found: list[dict[str, Any]] = []
    for name, folder in _ports():
        found.append({
            "port": name,
            "state": read_or_empty(folder + "/state").partition(":")[2].strip(),
            "rate": read_or_empty(folder + "/rate").strip(),
            "link": read_or_empty(folder + "/link_layer").strip(),
            "errors": _errors(folder),
            "gids": _gids(folder),
        })  # fmt: skip
    if found:
        usable, library = _usable(), _library()
        for row in found:
            row.update(usable=usable, library=library)
    return found


def counters() -> dict[str, dict[str, int]]:
    """port -> its error counters, which only ever grow: for two looks at them, before a run and after."""
    return {name: _errors(folder) for name, folder in _ports()}


def grown(before: Any) -> list[dict[str, Any]]:
    """Counters that are larger than in ``before`` (what ``counters`` returned then)."""
    found = []
    for name, now in counters().items():
        then = before.get(name) if isinstance(before, dict) else None
        for counter, value in now.items():
            if isinstance(then, dict) and value > int(then.get(counter, value)):
                found.append({"port": name, "counter": counter, "more": value - int(then[counter])})
    return found


def _ports() -> list[tuple[str, str]]:
    """(``mlx5_0/1``, its directory) of every port."""
    found = []
    for device in sorted(os.listdir(ROOT)) if os.path.isdir(ROOT) else ():
        folder = os.path.join(ROOT, device, "ports")
        for port in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            found.append(("%s/%s" % (device, port), os.path.join(folder, port)))
    return found


def _errors(folder: str) -> dict[str, int]:
    found = {}
    for path in _COUNTERS:
        text = read_or_empty(os.path.join(folder, path)).strip()
        if text.isdigit():
            found[path.partition("/")[2]] = int(text)
    return found


def _gids(folder: str) -> dict[str, str]:
    """index -> ``RoCE v2 IPv4``: what NCCL_IB_GID_INDEX counts. Places that are not in use are left out."""
    found = {}
    for index in range(_MOST_GIDS):
        gid = read_or_empty("%s/gids/%d" % (folder, index)).strip()
        kind = read_or_empty("%s/gid_attrs/types/%d" % (folder, index)).strip()
        if gid.replace(":", "").strip("0") and kind:
            found[str(index)] = "%s %s" % (kind, _family(gid))
    return found


def _family(gid: str) -> str:
    if gid.startswith("0000:0000:0000:0000:0000:ffff:"):
        return "IPv4"
    return "link-local" if gid.startswith("fe80:") else "IPv6"


def _usable() -> bool:
    """Whether this user may open a port at all."""
    names = os.listdir(_VERBS) if os.path.isdir(_VERBS) else []
    return any(os.access(os.path.join(_VERBS, name), os.R_OK | os.W_OK) for name in names if name.startswith("uverbs"))


def _library() -> bool:
    """Whether NCCL will find the library that it opens the ports with; without it, it takes sockets and says nothing."""
    try:
        ctypes.CDLL("libibverbs.so.1")
    except OSError:
        return False
    return True
