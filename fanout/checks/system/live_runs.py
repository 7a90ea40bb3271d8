"""Running runs: the ports and GPUs that this user's runs and those of other users hold and that a new run needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fanout.checks.engine.definition import CheckContext
from fanout.text.units import format_duration


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
        for run in list_runs(case, name):
            held = _select_gpus(case, name, run["claims"])
            if held:
                found.setdefault(run["run"], {})[name] = held
    return found


def find_others_on_port(case: CheckContext, port: int) -> dict[str, list[str]]:
    """Return the description of each holder of the port among other users -> the hosts."""
    found: dict[str, list[str]] = {}
    for name in case.hosts:
        for run in case.facts[name].get("other_runs", ()):
            if f"port-{port}" in run["claims"]:
                found.setdefault(describe_other_run(run), []).append(name)
    return found


def find_others_on_gpus(case: CheckContext) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Return host -> (description of a holder among other users, the GPUs of a new run that it holds)."""
    found: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for name in case.hosts:
        for run in case.facts[name].get("other_runs", ()):
            held = _select_gpus(case, name, run["claims"])
            if held:
                found.setdefault(name, []).append((describe_other_run(run), held))
    return found


def describe_port_holder(case: CheckContext, port: int) -> str:
    """Return the run that holds the port on any host; "" if there is none."""
    if ours := find_port_holders(case, port):
        return f"your run {next(iter(ours))}"
    return next(iter(find_others_on_port(case, port)), "")


def describe_other_run(run: Mapping[str, Any]) -> str:
    """Return a holder among other users as ``run R of bob (uid 1002), pid 4711, since 3 h``."""
    who = str(run["user"])
    what = f"run {run['run']} of {who}" if run["run"] else f"{who}, without a run of fanout"
    pid = f", pid {run['pid']}" if run["pid"] is not None else ""
    since = f", since {format_duration(run['age'])}" if run["age"] is not None else ""
    return f"{what}{pid}{since}"


def _select_gpus(case: CheckContext, name: str, claims: Sequence[str]) -> tuple[str, ...]:
    """Return the claimed GPUs that a new run would use on the host."""
    host, there = case.get_host(name), len(case.facts[name].get("gpu", {}).get("gpus", ()))
    number = host.slots if host.slots is not None else there
    wanted = set(host.gpus or [str(index) for index in range(number if there else 0)])
    return tuple(claim[4:] for claim in claims if claim.startswith("gpu-") and claim[4:] in wanted)


def find_blocking_runs(case: CheckContext) -> set[str]:
    """Return the runs that hold a port or a GPU that a new run needs."""
    return {*find_port_holders(case, case.request.master_port), *find_gpu_holders(case)}
