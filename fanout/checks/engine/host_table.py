"""Host table of the report: one row per host, and the text of each cell. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fanout.checks.engine.definition import CheckContext, CheckFinding, Level
from fanout.checks.network.master_port import find_best_candidate
from fanout.model.frozen import frozen
from fanout.text.units import format_binary_size

_ORDER: dict[Level, int] = {"fail": 0, "warn": 1, "info": 2, "skip": 2, "ok": 2}


@frozen
class CheckCell:
    """Text of a cell. If ``measure`` (larger is worse) is set, folding shows the worst cell of several hosts."""

    text: str
    measure: float | None = None


@frozen
class CheckRow:
    """One host, or several with equal cells; ``problems`` are the checks that fail or warn there."""

    hosts: tuple[str, ...]
    level: Level
    cells: Mapping[str, CheckCell]
    problems: tuple[str, ...] = ()


_EMPTY_CELL = CheckCell(text="–")


def build_rows(case: CheckContext, findings: Sequence[CheckFinding]) -> list[CheckRow]:
    """Return one row for each host of the request, in rank order."""
    rows = []
    for host in case.request.hosts:
        mine = [finding for finding in findings if host.name in finding.hosts]
        worst = min((_ORDER[finding.level] for finding in mine), default=2)
        level: Level = ("fail", "warn", "ok")[worst]
        problems = tuple(finding.check for finding in mine if finding.level in ("fail", "warn"))
        known = bool(case.facts.get(host.name))
        cells = {name: column(case, host.name) if known else _EMPTY_CELL for name, column in COLUMNS.items()}
        rows.append(CheckRow(hosts=(host.name,), level=level, cells=cells, problems=problems))
    return rows


def _format_login(case: CheckContext, name: str) -> CheckCell:
    seconds = case.request.login_seconds.get(name)
    return _EMPTY_CELL if seconds is None else CheckCell(text=f"{seconds:.2f}s", measure=seconds)


def _format_clock(case: CheckContext, name: str) -> CheckCell:
    if name not in case.offsets:
        return _EMPTY_CELL
    offset, margin = case.offsets[name]
    if abs(offset) <= margin:
        return CheckCell(text="in step", measure=0.0)
    text = f"{1000 * offset:+.0f}ms" if abs(offset) < 10 else f"{offset:+.0f}s"
    return CheckCell(text=text, measure=abs(offset))


def _format_gpus(case: CheckContext, name: str) -> CheckCell:
    gpu = case.facts[name].get("gpu")
    if gpu is None:
        return _EMPTY_CELL
    names = [str(row["name"]).replace("NVIDIA ", "").partition(" ")[0] for row in gpu["gpus"]]
    return CheckCell(text=f"{len(names)}×{names[0]}" if names else "0")


def _format_processes(case: CheckContext, name: str) -> CheckCell:
    host = case.get_host(name)
    number = (
        host.slots if host.slots is not None else len(host.gpus) or len(case.facts[name].get("gpu", {}).get("gpus", ()))
    )
    return CheckCell(text=str(number)) if number else _EMPTY_CELL


def _format_cpus(case: CheckContext, name: str) -> CheckCell:
    cpu = case.facts[name].get("cpu")
    return CheckCell(text=str(cpu["usable"])) if cpu else _EMPTY_CELL


def _format_driver(case: CheckContext, name: str) -> CheckCell:
    return CheckCell(text=case.facts[name].get("gpu", {}).get("driver") or "–")


def _format_torch(case: CheckContext, name: str) -> CheckCell:
    return CheckCell(text=case.facts[name].get("software", {}).get("torch", {}).get("version") or "–")


def _format_memory(case: CheckContext, name: str) -> CheckCell:
    memory = case.facts[name].get("memory")
    return (
        CheckCell(text=format_binary_size(memory["available"]), measure=-memory["available"]) if memory else _EMPTY_CELL
    )


def _format_disk(case: CheckContext, name: str) -> CheckCell:
    space = case.facts[name].get("space", {}).get("workdir")
    return CheckCell(text=format_binary_size(space["free"]), measure=-space["free"]) if space else _EMPTY_CELL


def _format_connect_time(case: CheckContext, name: str) -> CheckCell:
    test = case.port
    if name == case.request.first_host.name:
        return CheckCell(text="(rank 0)" if len(case.request.hosts) > 1 else "–", measure=-1.0)
    if test is None or not test.dials:
        return _EMPTY_CELL
    dial = test.dials.get((name, test.chosen or find_best_candidate(case)), {"outcome": "unknown"})
    if dial["outcome"] != "ok":
        return CheckCell(text=dial["outcome"])
    return CheckCell(text=f"{1000 * dial.get('connect', 0):.1f}ms", measure=dial.get("connect", 0))


COLUMNS: dict[str, Callable[[CheckContext, str], CheckCell]] = {
    "login": _format_login,
    "clock": _format_clock,
    "gpus": _format_gpus,
    "procs": _format_processes,
    "cpus": _format_cpus,
    "driver": _format_driver,
    "torch": _format_torch,
    "mem free": _format_memory,
    "disk free": _format_disk,
    "to rank 0": _format_connect_time,
}
