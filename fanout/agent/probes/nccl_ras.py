"""NCCL RAS (NCCL's own status service) of this run: one process of each host reports all communicators that it knows.

RAS listens on a fixed port. If two jobs share a host, the second has no RAS, and a client gets the first job's answer.
So the answer counts only if a process of this run holds the port.
"""

from __future__ import annotations

from .. import rendezvous
from . import services
from .probe_tools import FactUnavailable
from .stacks import list_processes, read_environ

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

_ANY = ("", "0.0.0.0", "::", "localhost")


def query_run(args: dict[str, Any]) -> list[str]:
    """Return the RAS lines of the run. Raises FactUnavailable if no RAS listens, or another job's. ``args``: run, node."""
    return query_processes(list_processes(args))


def query_processes(pids: list[int]) -> list[str]:
    """Return the RAS lines of these processes, from the address in their environment (NCCL_RAS_ADDR). Raises FactUnavailable."""
    host, port = next(filter(None, map(_parse_address, pids)), ("127.0.0.1", services.RAS_PORT))
    listening = rendezvous.find_port_sockets(port)
    if listening and not any(listening & rendezvous.list_sockets(pid) for pid in pids):
        raise FactUnavailable("NCCL RAS on port %d belongs to another job" % port)
    return services.query_ras(address=(host, port))


def _parse_address(pid: int) -> tuple[str, int] | None:
    host, _, port = read_environ(pid).get(b"NCCL_RAS_ADDR", b"").decode("utf-8", "replace").rpartition(":")
    host = host.strip("[]")
    return ("127.0.0.1" if host in _ANY else host, int(port)) if port.isdigit() else None
