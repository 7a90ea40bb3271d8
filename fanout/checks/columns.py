"""Host table of the report: one row per host, and the text of each cell. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fanout.checks.compare import size
from fanout.checks.model import Case, Finding, Level
from fanout.checks.network import best

_ORDER: dict[Level, int] = {"fail": 0, "warn": 1, "info": 2, "skip": 2, "ok": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Text of a cell. If ``measure`` (larger is worse) is set, folding shows the worst cell of several hosts."""

    text: str
    measure: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One host, or several with equal cells; ``problems`` are the checks that fail or warn there."""

    hosts: tuple[str, ...]
    level: Level
    cells: Mapping[str, Cell]
    problems: tuple[str, ...] = ()


_NOTHING = Cell(text="–")


def rows_of(case: Case, findings: Sequence[Finding]) -> list[Row]:
    """Return one row for each host of the request, in rank order."""
    rows = []
    for host in case.request.hosts:
        mine = [finding for finding in findings if host.name in finding.hosts]
        worst = min((_ORDER[finding.level] for finding in mine), default=2)
        level: Level = ("fail", "warn", "ok")[worst]
        problems = tuple(finding.check for finding in mine if finding.level in ("fail", "warn"))
        known = bool(case.facts.get(host.name))
        cells = {name: column(case, host.name) if known else _NOTHING for name, column in COLUMNS.items()}
        rows.append(Row(hosts=(host.name,), level=level, cells=cells, problems=problems))
    return rows


def _login(case: Case, name: str) -> Cell:
    seconds = case.request.login_seconds.get(name)
    return _NOTHING if seconds is None else Cell(text=f"{seconds:.2f}s", measure=seconds)


def _clock(case: Case, name: str) -> Cell:
    if name not in case.offsets:
        return _NOTHING
    offset, margin = case.offsets[name]
    if abs(offset) <= margin:
        return Cell(text="in step", measure=0.0)
    text = f"{1000 * offset:+.0f}ms" if abs(offset) < 10 else f"{offset:+.0f}s"
    return Cell(text=text, measure=abs(offset))


def _gpus(case: Case, name: str) -> Cell:
    gpu = case.facts[name].get("gpu")
    if gpu is None:
        return _NOTHING
    names = [str(row["name"]).replace("NVIDIA ", "").partition(" ")[0] for row in gpu["gpus"]]
    return Cell(text=f"{len(names)}×{names[0]}" if names else "0")


def _processes(case: Case, name: str) -> Cell:
    host = case.host(name)
    number = (
        host.slots if host.slots is not None else len(host.gpus) or len(case.facts[name].get("gpu", {}).get("gpus", ()))
    )
    return Cell(text=str(number)) if number else _NOTHING


def _cpus(case: Case, name: str) -> Cell:
    cpu = case.facts[name].get("cpu")
    return Cell(text=str(cpu["usable"])) if cpu else _NOTHING


def _driver(case: Case, name: str) -> Cell:
    return Cell(text=case.facts[name].get("gpu", {}).get("driver") or "–")


def _torch(case: Case, name: str) -> Cell:
    return Cell(text=case.facts[name].get("software", {}).get("torch", {}).get("version") or "–")


def _memory(case: Case, name: str) -> Cell:
    memory = case.facts[name].get("memory")
    return Cell(text=size(memory["available"]), measure=-memory["available"]) if memory else _NOTHING


def _disk(case: Case, name: str) -> Cell:
    space = case.facts[name].get("space", {}).get("workdir")
    return Cell(text=size(space["free"]), measure=-space["free"]) if space else _NOTHING


def _to_first(case: Case, name: str) -> Cell:
    test = case.port
    if name == case.request.first.name:
        return Cell(text="(rank 0)" if len(case.request.hosts) > 1 else "–", measure=-1.0)
    if test is None or not test.dials:
        return _NOTHING
    dial = test.dials.get((name, test.chosen or best(case)), {"outcome": "unknown"})
    if dial["outcome"] != "ok":
        return Cell(text=dial["outcome"])
    return Cell(text=f"{1000 * dial.get('connect', 0):.1f}ms", measure=dial.get("connect", 0))


COLUMNS: dict[str, Callable[[Case, str], Cell]] = {
    "login": _login,
    "clock": _clock,
    "gpus": _gpus,
    "procs": _processes,
    "cpus": _cpus,
    "driver": _driver,
    "torch": _torch,
    "mem free": _memory,
    "disk free": _disk,
    "to rank 0": _to_first,
}
