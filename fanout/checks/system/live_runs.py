"""Running runs of this user: the ports and GPUs that they hold and that a new run needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fanout.checks.engine.definition import CheckContext


def list_runs(case: CheckContext, name: str) -> list[Mapping[str, Any]]:
    """Return the runs on a host, except attempts whose claims this run takes over."""
    runs = case.facts[name].get("runs", ())
    return [run for run in runs if run["run"] not in case.request.earlier_attempts]


def find_port_holders(case: CheckContext, port: int) -> dict[str, list[str]]:
    """Return run -> the hosts on which it holds the port."""
    found: dict[str, list[str]] = {}
    for name in case.hosts:
        for run in list_runs(case, name):
            if f"port-{port}" in run["claims"]:
                found.setdefault(run["run"], []).append(name)
    holder: Mapping[str, Any] = (case.port.problem.get("holder") or {}) if case.port else {}
    if not found and holder.get("kept") and holder["run"] not in case.request.earlier_attempts:
        found[str(holder["run"])] = [case.request.first_host.name]
    return found


def find_gpu_holders(case: CheckContext) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return run -> host -> the GPUs that it holds and that a new run would use."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for name in case.hosts:
        host, there = case.get_host(name), len(case.facts[name].get("gpu", {}).get("gpus", ()))
        number = host.slots if host.slots is not None else there
        wanted = set(host.gpus or [str(index) for index in range(number if there else 0)])
        for run in list_runs(case, name):
            held = tuple(claim[4:] for claim in run["claims"] if claim.startswith("gpu-") and claim[4:] in wanted)
            if held:
                found.setdefault(run["run"], {})[name] = held
    return found


def find_blocking_runs(case: CheckContext) -> set[str]:
    """Return the runs that hold a port or a GPU that a new run needs."""
    return {*find_port_holders(case, case.request.master_port), *find_gpu_holders(case)}
