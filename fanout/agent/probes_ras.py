"""What NCCL's own service (RAS) says of this run: one process of each host answers for all communicators that it knows.

It listens on a fixed port, so where two jobs share a host the second has none, and whoever asks there hears of the
other one. So it counts only if a process of this run holds the port.
"""

from __future__ import annotations

from . import joining, probes_services
from .probes_stacks import environ_of, processes_of
from .probes_tools import NotHad

TYPE_CHECKING = False  # what typing says, without the price of importing it on a host
if TYPE_CHECKING:
    from typing import Any

_ANY = ("", "0.0.0.0", "::", "localhost")


def of_this_run(args: dict[str, Any]) -> list[str]:
    """``args``: run, node. Its lines; NotHad where nobody listens, or somebody else's job."""
    return of(processes_of(args))


def of(pids: list[int]) -> list[str]:
    """The same of these processes, at the address that is in their environment (NCCL_RAS_ADDR)."""
    host, port = next(filter(None, map(_address, pids)), ("127.0.0.1", probes_services.RAS_PORT))
    listening = joining.sockets(port)
    if listening and not any(listening & joining.held(pid) for pid in pids):
        raise NotHad("NCCL RAS on port %d is not this run's" % port)
    return probes_services.ras(address=(host, port))


def _address(pid: int) -> tuple[str, int] | None:
    host, _, port = environ_of(pid).get(b"NCCL_RAS_ADDR", b"").decode("utf-8", "replace").rpartition(":")
    host = host.strip("[]")
    return ("127.0.0.1" if host in _ANY else host, int(port)) if port.isdigit() else None
