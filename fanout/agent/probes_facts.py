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
from .probes_tools import FactUnavailable, ForkedCall, ToolProcess, add_section

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Callable, Dict

    Sections = Dict[str, Callable[[Dict[str, Any]], Any]]

QUICK: Sections = {
    "identity": probes_host.collect_identity,
    "user": probes_host.collect_user,
    "agent": probes_host.collect_agent,
    "limits": probes_host.collect_limits,
    "memory": probes_host.collect_memory,
    "cpu": probes_host.collect_cpu,
    "kernel": probes_host.collect_kernel,
    "session": probes_host.collect_session,
    "environment": probes_host.collect_environment,
    "stuck": probes_host.find_stuck,
    "interfaces": probes_net.list_interfaces,
    "route": probes_net.find_default_routes,
    "ports": probes_net.read_port_ranges,
    "residue": probes_net.read_nccl_files,
    "infiniband": probes_rdma.list_ports,
    "segments": probes_files.find_shared_memory,
    "ras": probes_services.query_other_job,
    "upgrades": probes_upgrades.find_upgrades,
}

# These use paths or name servers that may hang for minutes: each runs in its own child, which can be abandoned.
GUARDED: Sections = {
    "own_name": probes_net.resolve_own_name,
    "reverse": probes_net.time_reverse_lookups,
    "files": probes_files.collect_files,
    "programs": probes_files.find_programs,
    "space": probes_files.measure_space,
    "tree": probes_tree.fingerprint_tree,
    "locks": probes_files.find_stale_locks,
    "runs": probes_runs.list_live,
    "leftovers": probes_runs.find_leftovers,
}

# These wait for a program: all are started first and collected last.
PROGRAMS: dict[str, tuple[Callable[[dict[str, Any]], ToolProcess], Callable[[Any], Any]]] = {
    "gpu": (probes_gpu.start_query, probes_gpu.finish_query),
    "software": (probes_soft.start_python, probes_soft.finish_python),
    "services": (probes_services.start_query, probes_services.finish_query),
}


def ask_facts(args: dict[str, Any]) -> dict[str, Any]:
    """Return all facts about this host, and change nothing. ``args["guard"]`` (seconds) bounds the slow sections."""
    began = time.time()
    guard = float(args.get("guard", 5.0))
    answer: dict[str, Any] = {}
    missing: dict[str, str] = {}
    programs = {name: _start_section(missing, name, start, args) for name, (start, _) in PROGRAMS.items()}
    asides = {name: ForkedCall(partial(section, args), guard) for name, section in GUARDED.items()}
    for name, section in QUICK.items():
        add_section(answer, missing, name, partial(section, args))
    for name, aside in asides.items():
        add_section(answer, missing, name, aside.get_result)
    for name, program in programs.items():
        if program is not None:
            add_section(answer, missing, name, partial(PROGRAMS[name][1], program))
    answer["missing"] = missing
    answer["clock"] = {"began": began, "ended": time.time()}
    return answer


def _start_section(
    missing: dict[str, str], name: str, start: Callable[[dict[str, Any]], ToolProcess], args: dict[str, Any]
) -> ToolProcess | None:
    """Start the section's program and return it. If there is nothing to start, note why and return None."""
    try:
        return start(args)
    except FactUnavailable as error:
        missing[name] = str(error)
        return None
