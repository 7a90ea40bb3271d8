"""Network facts as libraries will see them: interfaces, names, port ranges, NCCL's configuration files."""

from __future__ import annotations

import ctypes
import os
import socket
import time
from functools import partial

from .probe_tools import FactUnavailable, read_or_empty, read_start

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Callable

_UP, _LOOPBACK, _RUNNING = 0x1, 0x8, 0x40


class _SockAddr(ctypes.Structure):
    _fields_ = [("family", ctypes.c_ushort), ("data", ctypes.c_ubyte * 26)]


class _IfAddrs(ctypes.Structure):
    pass


_IfAddrs._fields_ = [
    ("next", ctypes.POINTER(_IfAddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.POINTER(_SockAddr)),
    ("netmask", ctypes.POINTER(_SockAddr)),
]


def list_interfaces(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all interfaces in the order of getifaddrs, which is the order in which NCCL tries them."""
    library = ctypes.CDLL(None)
    head = ctypes.POINTER(_IfAddrs)()
    if library.getifaddrs(ctypes.byref(head)) != 0:
        raise FactUnavailable("getifaddrs failed")
    found: dict[str, dict[str, Any]] = {}
    try:
        entry = head
        while entry:
            row = entry.contents
            name = row.name.decode()
            about = found.setdefault(name, _describe_interface(name, row.flags))
            if row.address:
                text = _format_address(row.address.contents, row.netmask.contents if row.netmask else None)
                if text:
                    about["addresses"].append(text)
            entry = row.next
    finally:
        library.freeifaddrs(head)
    return list(found.values())


def _describe_interface(name: str, flags: int) -> dict[str, Any]:
    folder = "/sys/class/net/%s/" % name
    return {
        "name": name, "addresses": [],
        "up": bool(flags & _UP), "running": bool(flags & _RUNNING), "loopback": bool(flags & _LOOPBACK),
        "mtu": int(read_or_empty(folder + "mtu") or 0),
        "speed": _read_speed(folder),
        "duplex": read_or_empty(folder + "duplex").strip(),
        "received": int(read_or_empty(folder + "statistics/rx_packets") or 0),
        "bad": int(read_or_empty(folder + "statistics/rx_errors") or 0),
    }  # fmt: skip


def _read_speed(folder: str) -> int:
    """Return Mb/s; 0 if unknown (virtual devices report wrong values or none)."""
    if not os.path.exists(folder + "device"):
        return 0
    text = read_or_empty(folder + "speed").strip()
    return int(text) if text.isdigit() else 0


def _format_address(address: _SockAddr, netmask: _SockAddr | None) -> str:
    """Return ``10.0.0.1/24`` or ``2001:db8::1/64``, link-local IPv6 as ``fe80::1%2/64``; "" for others."""
    data = bytes(address.data)
    mask = bytes(netmask.data) if netmask is not None else b"\0" * 26
    if address.family == socket.AF_INET:
        return "%s/%d" % (socket.inet_ntop(socket.AF_INET, data[2:6]), _count_bits(mask[2:6]))
    if address.family == socket.AF_INET6:
        scope = int.from_bytes(data[22:26], "little")
        text = socket.inet_ntop(socket.AF_INET6, data[6:22])
        return "%s%s/%d" % (text, "%%%d" % scope if scope else "", _count_bits(mask[6:22]))
    return ""


def _count_bits(mask: bytes) -> int:
    return bin(int.from_bytes(mask, "big")).count("1")


def find_default_routes(args: dict[str, Any]) -> dict[str, str]:
    """Return the interface of the default route per family ("" if there is none)."""
    four = six = ""
    for line in read_start("/proc/net/route").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == "00000000" and fields[7] == "00000000":
            four = four or fields[0]
    for line in read_or_empty("/proc/net/ipv6_route").splitlines():
        fields = line.split()
        if fields[0] == "0" * 32 and fields[1] == "00" and fields[9] != "lo":
            six = six or fields[9]
    return {"ipv4": four, "ipv6": six}


def resolve_name(name: str) -> dict[str, Any]:
    """Return the addresses of ``name`` on this host, and the seconds that the lookup took."""
    began = time.monotonic()
    addresses: list[str] = []
    error = ""
    try:
        for row in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM):
            text = str(row[4][0])
            if text not in addresses:
                addresses.append(text)
    except (OSError, UnicodeError) as problem:
        error = str(problem.args[-1]) if problem.args else str(problem)
    return {"addresses": addresses, "error": error, "seconds": round(time.monotonic() - began, 3)}


def resolve_own_name(args: dict[str, Any]) -> dict[str, Any]:
    """Return what this host's own name resolves to on itself: gloo listens there by default."""
    return _take_faster(lambda: resolve_name(socket.gethostname()))


def _take_faster(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the answer; if it was a little slow, the faster of two. A busy host is slow once, a slow name server
    twice."""
    first = measure()
    if not 0.2 < first["seconds"] < 2.0:
        return first
    return min(first, measure(), key=lambda answer: answer["seconds"])


def _reverse_lookup(address: str) -> dict[str, Any]:
    """Return the name of an address, and the seconds that the lookup took."""
    began = time.monotonic()
    try:
        name = socket.getnameinfo((address, 0), socket.NI_NUMERICSERV)[0]
    except OSError:
        name = ""
    return {"address": address, "name": name, "seconds": round(time.monotonic() - began, 3)}


def time_reverse_lookups(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the reverse lookup times of other hosts' addresses: torch looks them up when it connects, and waits."""
    return [_take_faster(partial(_reverse_lookup, address)) for address in args.get("peers", ())]


def read_port_ranges(args: dict[str, Any]) -> dict[str, Any]:
    """Return the ports that the kernel uses for outgoing connections, and the reserved ones."""
    low, high = read_start("/proc/sys/net/ipv4/ip_local_port_range").split()
    reserved = read_or_empty("/proc/sys/net/ipv4/ip_local_reserved_ports").strip()
    return {"low": int(low), "high": int(high), "reserved": reserved}


def read_nccl_files(args: dict[str, Any]) -> dict[str, str]:
    """Return NCCL's settings from its configuration files, which users forget."""
    found = {}
    for path in ("/etc/nccl.conf", "~/.nccl.conf"):
        text = read_or_empty(os.path.expanduser(path))
        kept = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if kept:
            found[path] = "\n".join(kept)
    return found
