"""Running runs of this user: the ports and GPUs that they hold and that a new run needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fanout.checks.engine.definition import CheckContext


def find_port_holders(case: CheckContext, port: int) -> dict[str, list[str]]:
    """Return run -> the hosts on which it holds the port."""
    found: dict[str, list[str]] = {}
    for name in case.hosts:
        for run in case.facts[name].get("runs", ()):
            if f"port-{port}" in run["claims"]:
                found.setdefault(run["run"], []).append(name)
    holder: Mapping[str, Any] = (case.port.problem.get("holder") or {}) if case.port else {}
    if not found and holder.get("kept"):
        found[str(holder["run"])] = [case.request.first_host.name]
    return found


def find_gpu_holders(case: CheckContext) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return run -> host -> the GPUs that it holds and that a new run would use."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for name in case.hosts:
        host, there = case.get_host(name), len(case.facts[name].get("gpu", {}).get("gpus", ()))
        number = host.slots if host.slots is not None else there
        wanted = set(host.gpus or [str(index) for index in range(number if there else 0)])
        for run in case.facts[name].get("runs", ()):
            held = tuple(claim[4:] for claim in run["claims"] if claim.startswith("gpu-") and claim[4:] in wanted)
            if held:
                found.setdefault(run["run"], {})[name] = held
    return found


def find_blocking_runs(case: CheckContext) -> set[str]:
    """Return the runs that hold a port or a GPU that a new run needs."""
    return {*find_port_holders(case, case.request.master_port), *find_gpu_holders(case)}
