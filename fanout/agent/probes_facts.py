"""The check's first question: collects many sections of facts in one round trip.

A section that is not available is absent from the answer, and ``missing`` has its reason. So a missing section never
counts as healthy.
"""

from __future__ import annotations

import time
from functools import partial

from . import (
    probes_files,
    probes_gpu,
    probes_host,
    probes_net,
    probes_rdma,
    probes_runs,
    probes_services,
    probes_soft,
    probes_tree,
    probes_upgrades,
)
from .probes_tools import Aside, NotHad, Program, put

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Callable, Dict

    Sections = Dict[str, Callable[[Dict[str, Any]], Any]]

QUICK: Sections = {
    "identity": probes_host.identity,
    "user": probes_host.user,
    "agent": probes_host.agent,
    "limits": probes_host.limits,
    "memory": probes_host.memory,
    "cpu": probes_host.cpu,
    "kernel": probes_host.kernel,
    "session": probes_host.session,
    "environment": probes_host.environment,
    "stuck": probes_host.stuck,
    "interfaces": probes_net.interfaces,
    "route": probes_net.route,
    "ports": probes_net.port_ranges,
    "residue": probes_net.residue,
    "infiniband": probes_rdma.infiniband,
    "segments": probes_files.shared_memory,
    "ras": probes_services.other_job,
    "upgrades": probes_upgrades.upgrades,
}

# These use paths or name servers that may hang for minutes: each runs in its own child, which can be abandoned.
GUARDED: Sections = {
    "own_name": probes_net.own_name,
    "reverse": probes_net.reverse,
    "files": probes_files.files,
    "programs": probes_files.programs,
    "space": probes_files.space,
    "tree": probes_tree.tree,
    "locks": probes_files.stale_locks,
    "runs": probes_runs.live,
    "leftovers": probes_runs.leftovers,
}

# These wait for a program: all are started first and collected last.
PROGRAMS: dict[str, tuple[Callable[[dict[str, Any]], Program], Callable[[Any], Any]]] = {
    "gpu": (probes_gpu.start, probes_gpu.finish),
    "software": (probes_soft.start, probes_soft.finish),
    "services": (probes_services.start, probes_services.finish),
}


def ask_facts(args: dict[str, Any]) -> dict[str, Any]:
    """Return all facts about this host, and change nothing. ``args["guard"]`` (seconds) bounds the slow sections."""
    began = time.time()
    guard = float(args.get("guard", 5.0))
    answer: dict[str, Any] = {}
    missing: dict[str, str] = {}
    programs = {name: _begun(missing, name, start, args) for name, (start, _) in PROGRAMS.items()}
    asides = {name: Aside(partial(section, args), guard) for name, section in GUARDED.items()}
    for name, section in QUICK.items():
        put(answer, missing, name, partial(section, args))
    for name, aside in asides.items():
        put(answer, missing, name, aside.result)
    for name, program in programs.items():
        if program is not None:
            put(answer, missing, name, partial(PROGRAMS[name][1], program))
    answer["missing"] = missing
    answer["clock"] = {"began": began, "ended": time.time()}
    return answer


def _begun(
    missing: dict[str, str], name: str, start: Callable[[dict[str, Any]], Program], args: dict[str, Any]
) -> Program | None:
    """Start the section's program and return it. If there is nothing to start, note why and return None."""
    try:
        return start(args)
    except NotHad as error:
        missing[name] = str(error)
        return None
