"""The check from beginning to end: facts of all hosts, then host 0's port from everywhere, then judgement.

Only orchestration: ``asker`` carries the questions, ``checks`` judges the answers. What a run needs of it (the
address that all hosts reach, how many GPUs, where the environment is) is in ``Learned``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from fanout.checks import CATALOGUE
from fanout.checks.addresses import all_loopback, candidates, interface_of
from fanout.checks.asking import Answer, Ask, Asker
from fanout.checks.gpu import count
from fanout.checks.model import Case, Check, CheckRequest, Finding, PortTest, judged_all
from fanout.hosts import Host

_FACTS_SECONDS = 15.0
_LISTEN_SECONDS = 20.0
_DIAL_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What the check found out that the plan can use; a host that is absent from a mapping did not tell.

    ``master_addr`` is the address of host 0 that all others reach ("" if there is none, or nobody was asked).
    ``addresses`` and ``interfaces`` are those by which a host reaches host 0 and is reached by it.
    """

    master_addr: str = ""
    gpus: Mapping[str, int] = field(default_factory=dict)
    script: Mapping[str, bool] = field(default_factory=dict)
    venv: Mapping[str, bool] = field(default_factory=dict)
    torchrun: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    interfaces: Mapping[str, str] = field(default_factory=dict)
    offsets: Mapping[str, float] = field(default_factory=dict)
    exports: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """A check that is over: everything that was seen, what it means, and what a run can use of it."""

    case: Case
    findings: tuple[Finding, ...]
    learned: Learned
    seconds: float

    @property
    def failures(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == "fail")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == "warn")

    def exit_code(self, *, strict: bool = False) -> int:
        """0: fine. 1: a check failed (``strict``: or warned). 255: a host could not be reached."""
        if self.case.request.unreached:
            return 255
        return 1 if self.failures or (strict and self.warnings) else 0


def run(
    request: CheckRequest,
    asker: Asker,
    *,
    checks: tuple[Check, ...] = CATALOGUE,
    clock: Callable[[], float] = time.monotonic,
) -> Preflight:
    """Ask, test, judge. Changes nothing on the hosts; every listener that it opens is closed again."""
    began = clock()
    case = _facts(request, asker)
    if case.facts:
        case = replace(case, port=_port_test(case, asker))
    return Preflight(
        case=case, findings=judged_all(checks, case), learned=learned(case), seconds=clock() - began
    )  # fmt: skip


# -- the first round: facts


def _facts(request: CheckRequest, asker: Asker) -> Case:
    hosts = request.reached
    asks = [Ask(host=host.name, what="facts", args=_questions(request, host), timeout=_FACTS_SECONDS) for host in hosts]
    facts: dict[str, Mapping[str, Any]] = {}
    missing: dict[str, Mapping[str, str]] = {}
    offsets: dict[str, tuple[float, float]] = {}
    for host, answer in zip(hosts, asker.ask(asks), strict=True):
        if answer.error or not isinstance(answer.value, Mapping):
            facts[host.name], missing[host.name] = {}, {"": answer.error or "the answer makes no sense"}
            continue
        facts[host.name] = answer.value
        missing[host.name] = answer.value.get("missing", {})
        offset = _offset(answer)
        if offset is not None:
            offsets[host.name] = offset
    return Case(request=request, facts=facts, missing=missing, offsets=offsets)


def _questions(request: CheckRequest, host: Host) -> dict[str, Any]:
    paths = {"workdir": ".", "script": request.script}
    if request.task:
        paths["task"] = request.task
    if request.config:
        paths["config"] = request.config
    return {
        "workdir": host.workdir or request.workdir,
        "paths": paths,
        "venv": request.venv,
        "imports": list(request.imports),
        "tree": len(request.hosts) > 1,
        "space": {"workdir": "."},
    }


def _offset(answer: Answer) -> tuple[float, float] | None:
    """(offset, uncertainty) of the host's clock, as NTP works it out from the four times of one exchange."""
    clock = answer.value.get("clock")
    if not clock or not answer.received:
        return None
    ahead, behind = clock["began"] - answer.sent, clock["ended"] - answer.received
    return (ahead + behind) / 2, (ahead - behind) / 2


# -- the second round: host 0's port


@contextmanager
def _listening(asker: Asker, host: str, port: int, key: str) -> Iterator[Answer]:
    """A listener on ``host`` for as long as the block runs."""
    args = {"port": port, "key": key, "seconds": _LISTEN_SECONDS}
    (answer,) = asker.ask([Ask(host=host, what="listen", args=args, timeout=_LISTEN_SECONDS)])
    try:
        yield answer
    finally:
        if answer.handle:
            asker.cancel(host, answer.handle)


def _port_test(case: Case, asker: Asker) -> PortTest:
    request = case.request
    first, port = request.first, request.master_port
    if not case.facts.get(first.name):
        return PortTest(port=port, unasked=f"{first.name}, which is host 0, did not answer")
    tried = candidates(
        given=request.master_addr, addr=first.addr, dialled=request.dialled.get(first.name, ""),
        facts=case.facts[first.name], alone=len(request.hosts) == 1,
        loopback=all_loopback(request.dialled, [host.name for host in request.reached]),
    )  # fmt: skip
    key = secrets.token_hex(16)
    with _listening(asker, first.name, port, key) as listener:
        if listener.error:
            return PortTest(port=port, candidates=tried, unasked=f"{first.name}: {listener.error}")
        if "error" in listener.value:
            return PortTest(port=port, candidates=tried, problem=listener.value)
        return _dialled(case, asker, tried, key)


def _dialled(case: Case, asker: Asker, tried: tuple[str, ...], key: str) -> PortTest:
    """Every worker dials every candidate at once; the first that all reach is chosen."""
    first, port = case.request.first.name, case.request.master_port
    workers = [name for name in case.hosts if name != first and case.facts[name]]
    targets = [{"addr": address, "port": port, "key": key} for address in tried]
    args = {"targets": targets, "timeout": _DIAL_SECONDS}
    asks = [Ask(host=name, what="dial", args=args, timeout=4 * _DIAL_SECONDS) for name in workers] if tried else []
    dials: dict[tuple[str, str], Mapping[str, Any]] = {}
    for name, answer in zip(workers, asker.ask(asks) if asks else (), strict=False):
        results = answer.value["results"] if not answer.error else []
        for position, address in enumerate(tried):
            unknown = {"outcome": "unknown", "text": answer.error or "no answer"}
            dials[name, address] = results[position] if position < len(results) else unknown
    reached = [address for address in tried if all(dials[name, address]["outcome"] == "ok" for name in workers)]
    return PortTest(port=port, candidates=tried, dials=dials, chosen=reached[0] if reached else "")


# -- what the plan can use


def learned(case: Case) -> Learned:
    programs, files = case.of("programs"), case.of("files")
    addresses = _addresses(case)
    return Learned(
        master_addr=case.port.chosen if case.port else "",
        gpus={name: count(case.facts[name]) for name in case.hosts if case.facts[name]},
        script={name: row.get("script", {}).get("kind") == "file" for name, row in files.items()},
        venv={name: bool(row["venv"]["exists"]) for name, row in programs.items()},
        torchrun={name: str(row["found"]["torchrun"]) for name, row in programs.items()},
        addresses=addresses,
        interfaces={
            name: found
            for name, address in addresses.items()
            if (found := interface_of(case.facts[name].get("interfaces", ()), address))
        },
        offsets={name: offset for name, (offset, _) in case.offsets.items()},
    )


def _addresses(case: Case) -> dict[str, str]:
    """The address of each host on the way to host 0: what its connection came from; host 0's is MASTER_ADDR."""
    test = case.port
    if test is None or not test.chosen:
        return {}
    found = {case.request.first.name: test.chosen}
    for (name, address), dial in test.dials.items():
        if address == test.chosen and dial.get("source"):
            found[name] = str(dial["source"]).removeprefix("::ffff:")
    return found
