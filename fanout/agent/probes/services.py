"""Services on this host: firewall, time synchronisation, OOM killers in user space, NCCL RAS."""

from __future__ import annotations

import os
import re
import socket
import time

from .files import which
from .probe_tools import FactUnavailable, ToolProcess, read_or_empty, search_path

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

RAS_PORT = 28028  # NCCL's own service, on localhost (NCCL_RAS_ADDR)
BOOTED = "/run/systemd/system"  # exists if systemd is the init: sd_booted(3)
_SECONDS = 4.0
_UNITS = {
    "firewall": ("firewalld", "ufw", "nftables"),
    "time": ("chronyd", "chrony", "systemd-timesyncd", "ntpd", "ntp", "ntpsec"),
    "killer": ("earlyoom", "nohang", "nohang-desktop", "systemd-oomd"),
}
_STATES = {"active", "inactive", "failed", "activating", "deactivating", "reloading", "unknown", "maintenance"}


class _ServiceQuery(ToolProcess):
    """The running systemctl, and the timedatectl beside it."""

    clock: ToolProcess


def start_query(args: dict[str, Any]) -> ToolProcess:
    """Start systemctl and timedatectl. Raises FactUnavailable if systemd does not run (as in a container)."""
    if not os.path.isdir(BOOTED):
        raise FactUnavailable("no systemd on this host")
    path = search_path(args) + ":/usr/bin:/bin"
    tools = [which(name, path) for name in ("systemctl", "timedatectl")]
    if not all(tools):
        raise FactUnavailable("no systemctl on PATH")
    env = dict(os.environ, PATH=path, LC_ALL="C")
    asked = _ServiceQuery(
        [tools[0], "is-active", *(unit for units in _UNITS.values() for unit in units)], env, _SECONDS
    )
    asked.clock = ToolProcess([tools[1], "show", "--property=NTPSynchronized", "--value"], env, _SECONDS)
    return asked


def finish_query(asked: Any) -> dict[str, Any]:
    """Return kind -> its active services. ``synchronised`` is None if timedatectl does not report it."""
    try:
        _, text = asked.get_output()
    except FactUnavailable:
        asked.clock.discard()
        raise
    synchronised = _is_synchronised(asked.clock)
    states = text.split()
    units = [(kind, unit) for kind, names in _UNITS.items() for unit in names]
    if len(states) != len(units) or not set(states) <= _STATES:
        raise FactUnavailable("systemctl: %s" % " ".join(states)[:200])
    found: dict[str, Any] = {kind: [] for kind in _UNITS}
    for (kind, unit), state in zip(units, states):
        if state == "active" and (unit != "ufw" or _ufw_is_on()):
            found[kind].append(unit)
    return dict(found, synchronised=synchronised)


def _is_synchronised(clock: ToolProcess) -> bool | None:
    try:
        _, text = clock.get_output()
    except FactUnavailable:
        return None
    return {"yes": True, "no": False}.get(text.strip())


def _ufw_is_on() -> bool:
    """Return whether ufw is enabled. Its unit is active on every Ubuntu, so its own file decides; unreadable counts as
    on."""
    text = read_or_empty("/etc/ufw/ufw.conf")
    return not text or bool(re.search(r"(?m)^ENABLED=yes", text))


def query_ras(seconds: float = 1.5, address: tuple[str, int] | None = None) -> list[str]:
    """Return what NCCL RAS on this host reports of its communicators. Raises FactUnavailable if none listens."""
    address = address or ("127.0.0.1", RAS_PORT)
    text, until = b"", time.monotonic() + seconds
    try:
        with socket.create_connection(address, 0.5) as link:
            link.sendall(b"verbose status\n")
            while len(text) < 1 << 16:
                link.settimeout(max(0.01, until - time.monotonic()))
                data = link.recv(1 << 14)
                if not data:
                    break
                text += data
    except socket.timeout:
        pass
    except OSError as error:
        raise FactUnavailable("no NCCL RAS on port %d (%s)" % (address[1], error.strerror or error)) from None
    return text.decode("utf-8", "replace").splitlines()[:200]


def query_other_job(args: dict[str, Any]) -> list[str]:
    """Return the RAS lines for the check: [] if no RAS listens, which is the healthy case."""
    try:
        return query_ras()
    except FactUnavailable:
        return []
