"""NCCL RAS (NCCL's own status service) of this run: one process of each host reports all communicators that it knows.

RAS listens on a fixed port. If two jobs share a host, the second has no RAS, and a client gets the first job's answer.
So the answer counts only if a process of this run holds the port.
"""

from __future__ import annotations

from . import joining, probes_services
from .probes_stacks import environ_of, processes_of
from .probes_tools import NotHad

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

_ANY = ("", "0.0.0.0", "::", "localhost")


def of_this_run(args: dict[str, Any]) -> list[str]:
    """Return the RAS lines of the run. Raises NotHad if no RAS listens, or another job's. ``args``: run, node."""
    return of(processes_of(args))


def of(pids: list[int]) -> list[str]:
    """Return the RAS lines of these processes, from the address in their environment (NCCL_RAS_ADDR). Raises NotHad."""
    host, port = next(filter(None, map(_address, pids)), ("127.0.0.1", probes_services.RAS_PORT))
    listening = joining.sockets(port)
    if listening and not any(listening & joining.held(pid) for pid in pids):
        raise NotHad("NCCL RAS on port %d belongs to another job" % port)
    return probes_services.ras(address=(host, port))


def _address(pid: int) -> tuple[str, int] | None:
    host, _, port = environ_of(pid).get(b"NCCL_RAS_ADDR", b"").decode("utf-8", "replace").rpartition(":")
    host = host.strip("[]")
    return ("127.0.0.1" if host in _ANY else host, int(port)) if port.isdigit() else None
