"""The check's first question: collects many sections of facts in one round trip.

A section that is not available is absent from the answer, and ``missing`` has its reason. So a missing section never
counts as healthy. The host's own agent, beside one in a container, gets the names of its ``sections``.
"""

from __future__ import annotations

import time
from functools import partial

from . import (
    container_engine,
    files,
    gpu,
    host,
    network,
    other_runs,
    python_env,
    rdma,
    runs,
    services,
    source_tree,
    upgrades,
)
from .probe_tools import FactUnavailable, ForkedCall, ToolProcess, add_missing, add_section

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Callable, Dict

    Sections = Dict[str, Callable[[Dict[str, Any]], Any]]

QUICK: Sections = {
    "identity": host.collect_identity,
    "user": host.collect_user,
    "agent": host.collect_agent,
    "limits": host.collect_limits,
    "memory": host.collect_memory,
    "cpu": host.collect_cpu,
    "kernel": host.collect_kernel,
    "session": host.collect_session,
    "environment": host.collect_environment,
    "stuck": host.find_stuck,
    "interfaces": network.list_interfaces,
    "route": network.find_default_routes,
    "ports": network.read_port_ranges,
    "residue": network.read_nccl_files,
    "infiniband": rdma.list_ports,
    "segments": files.find_shared_memory,
    "ras": services.query_other_job,
    "upgrades": upgrades.find_upgrades,
}

# These use paths or name servers that may hang for minutes: each runs in its own child, which can be abandoned.
GUARDED: Sections = {
    "own_name": network.resolve_own_name,
    "reverse": network.time_reverse_lookups,
    "files": files.collect_files,
    "programs": files.find_programs,
    "space": files.measure_space,
    "tree": source_tree.fingerprint_tree,
    "locks": files.find_stale_locks,
    "runs": runs.list_live,
    "other_runs": other_runs.list_other_runs,
    "leftovers": runs.find_leftovers,
}

# These are collected only for a question that names them: they are about the container on this machine.
ON_REQUEST: Sections = {"engine": container_engine.examine_container}

# These wait for a program: all are started first and collected last.
PROGRAMS: dict[str, tuple[Callable[[dict[str, Any]], ToolProcess], Callable[[Any], Any]]] = {
    "gpu": (gpu.start_query, gpu.finish_query),
    "software": (python_env.start_python, python_env.finish_python),
    "services": (services.start_query, services.finish_query),
}


def ask_facts(args: dict[str, Any]) -> dict[str, Any]:
    """Return all facts about this host, or only those of ``args["sections"]``, and change nothing.

    ``args["guard"]`` (seconds) bounds the slow sections.
    """
    began = time.time()
    guard = float(args.get("guard", 5.0))
    names = args.get("sections") or [*QUICK, *GUARDED, *PROGRAMS]
    answer: dict[str, Any] = {"missing": {}, "reasons": {}}
    programs = {
        name: _start_section(answer, name, start, args) for name, (start, _) in PROGRAMS.items() if name in names
    }
    slow = {**GUARDED, **ON_REQUEST}
    asides = {name: ForkedCall(partial(part, args), guard) for name, part in slow.items() if name in names}
    for name, section in QUICK.items():
        if name in names:
            add_section(answer, name, partial(section, args))
    for name, aside in asides.items():
        add_section(answer, name, aside.get_result)
    for name, program in programs.items():
        if program is not None:
            add_section(answer, name, partial(PROGRAMS[name][1], program))
    answer["clock"] = {"began": began, "ended": time.time()}
    return answer


def _start_section(
    answer: dict[str, Any], name: str, start: Callable[[dict[str, Any]], ToolProcess], args: dict[str, Any]
) -> ToolProcess | None:
    """Start the section's program and return it. If there is nothing to start, note why and return None."""
    try:
        return start(args)
    except FactUnavailable as error:
        add_missing(answer, name, str(error), error.reason)
        return None
