"""Preflight: collect the facts of all hosts, test MASTER_PORT and the mesh, rehearse train.sh, and judge the results.

This module only orchestrates: ``asker`` sends the questions, ``checks`` judges the answers. ``HostFacts`` has the facts that a
run needs: the address that all hosts reach, the number of GPUs, where the environment is.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from fanout.checks.deep.torch_result import DeepTest
from fanout.checks.engine.catalogue import CATALOGUE
from fanout.checks.engine.cause_folding import fold_consequences
from fanout.checks.engine.definition import Check, CheckContext, CheckFinding, CheckRequest, MeshTest, PortTest
from fanout.checks.engine.evaluation import judge_all_checks
from fanout.checks.files import task_config
from fanout.checks.gpu.accelerators import count_gpus
from fanout.checks.network import interfaces, mesh
from fanout.checks.network.addresses import is_all_loopback, list_master_candidates
from fanout.checks.software import task_imports
from fanout.checks.ssh.invalid_answers import InvalidAnswerRecorder
from fanout.model.errors import UsageError
from fanout.model.events import AnswerReason
from fanout.model.exit_status import ExitStatus
from fanout.model.frozen import frozen
from fanout.model.host_facts import HostFacts
from fanout.model.hosts import Host
from fanout.model.plan import LaunchPlan
from fanout.model.planner import Planner
from fanout.model.rpc import WAVE, Asker, MachineAsker, ProbeAnswer, ProbeRequest
from fanout.preflight import cross_host, machine_round, port_choice
from fanout.preflight.question_waves import BatchedAsker

_FACTS_SECONDS = 15.0
_CLOCK_SECONDS = 5.0
_LISTEN_SECONDS = 20.0
_DIAL_SECONDS = 3.0
_BULK = 1 << 18


@frozen
class Preflight:
    """Result of a check: its data, the findings, the facts for a run, and the seconds that it took."""

    case: CheckContext
    findings: tuple[CheckFinding, ...]
    host_facts: HostFacts
    seconds: float

    @property
    def failures(self) -> tuple[CheckFinding, ...]:
        return tuple(finding for finding in self.findings if finding.level == "fail")

    @property
    def warnings(self) -> tuple[CheckFinding, ...]:
        return tuple(finding for finding in self.findings if finding.level == "warn")

    @property
    def ok(self) -> bool:
        """Return whether every host was reached and no check failed."""
        return not self.failures and not self.case.request.unreached

    def compute_exit_code(self, *, strict: bool = False) -> int:
        """Return the exit code. 0: no failure. 1: a check failed (``strict``: or warned). 255: a host was unreachable."""
        if self.case.request.unreached:
            return ExitStatus.UNREACHABLE
        return ExitStatus.NEGATIVE if self.failures or (strict and self.warnings) else ExitStatus.SUCCESS


#: Makes the test that needs torch, from the facts so far and the findings of the other checks.
DeepTestRunner = Callable[[CheckContext, HostFacts, Sequence[CheckFinding]], DeepTest]


def run(
    request: CheckRequest,
    asker: Asker,
    *,
    planner: Planner | None = None,
    checks: tuple[Check, ...] = CATALOGUE,
    deep: DeepTestRunner | None = None,
    machines: MachineAsker | None = None,
    clock: Callable[[], float] = time.monotonic,
    began: float | None = None,
) -> Preflight:
    """Run the check. It changes nothing on the hosts, and closes every listener that it opens.

    ``planner`` makes the plan that a run would have from the facts; without it, train.sh is not rehearsed. ``deep`` makes
    the test that needs torch, and gets the findings of all other checks. ``machines`` asks the own agents of hosts in
    containers. ``began`` is when the user started to wait.
    """
    began = clock() if began is None else began
    noting = InvalidAnswerRecorder(asker)
    asker = waves = BatchedAsker(noting)
    asked = machine_round.post_machine_questions(request, checks, machines)
    case = _collect_facts(request, asker)
    if case.facts:
        case = replace(case, offsets=_measure_clocks(case, asker))
        case = port_choice.choose_port(case, partial(_test_port, asker=asker))
        case = replace(case, mesh=_test_mesh(case, asker))
        if cross_host.is_section_needed(case, checks, "share"):
            case = cross_host.probe_shared_directory(case, asker)
        if planner is not None and cross_host.is_section_needed(case, checks, "rehearsal"):
            case = cross_host.rehearse_script(case, asker, partial(_make_plan, planner, case))
            case = cross_host.examine_rehearsed_python(case, asker, partial(_build_fact_questions, request))
    case = machine_round.add_machine_answers(case, asked, machines)
    case = replace(case, invalid=noting.invalid, slow=waves.slow)
    findings = fold_consequences(judge_all_checks(checks, case))
    if deep is not None and case.facts:
        case = replace(case, deep=deep(case, extract_facts(case), findings))
        findings = fold_consequences(judge_all_checks(checks, case))
    return Preflight(case=case, findings=findings, host_facts=extract_facts(case), seconds=clock() - began)


def _make_plan(planner: Planner, case: CheckContext) -> LaunchPlan | str:
    """Return the plan, or the reason why there is none; another check reports the advice."""
    try:
        return planner.make_plan(extract_facts(case))
    except UsageError as error:
        return f"no plan: {error}"


# -- the first round: facts


def _collect_facts(request: CheckRequest, asker: Asker) -> CheckContext:
    hosts = request.reached_hosts
    asks = [
        ProbeRequest(host=host.name, what="facts", args=_build_fact_questions(request, host), timeout=_FACTS_SECONDS)
        for host in hosts
    ]
    facts: dict[str, Mapping[str, Any]] = {}
    missing: dict[str, Mapping[str, str]] = {}
    reasons: dict[str, Mapping[str, AnswerReason]] = {}
    offsets: dict[str, tuple[float, float]] = {}
    for host, answer in zip(hosts, asker.ask(asks), strict=True):
        if answer.error or not isinstance(answer.value, Mapping):
            facts[host.name], missing[host.name] = {}, {"": answer.error or "the answer is malformed"}
            reasons[host.name] = {"": answer.reason}
            continue
        facts[host.name] = answer.value
        missing[host.name] = answer.value.get("missing", {})
        reasons[host.name] = answer.value.get("reasons", {})
        clock = answer.value.get("clock")
        if clock and answer.received:
            offsets[host.name] = _compute_offset(answer, clock["began"], clock["ended"])
    case = CheckContext(request=request, facts=facts, missing=missing, reasons=reasons, offsets=offsets)
    return cross_host.recollect_code(case, asker, partial(_build_fact_questions, request))


def _build_fact_questions(request: CheckRequest, host: Host) -> dict[str, Any]:
    paths = {"workdir": ".", "script": request.script}
    if request.task:
        paths["task"] = request.task
    if request.config:
        paths["config"] = request.config
        named = list(task_config.find_paths(request.config_values).items())
        paths.update(named[: task_config.MOST])
    return {
        "workdir": host.workdir or request.workdir,
        "paths": paths,
        "venv": request.venv,
        "imports": [
            *request.imports,
            *request.members,
            *task_imports.list_module_questions(request.module if not request.task else ""),
        ],
        "is_module": bool(request.module),
        "tree": len(request.hosts) > 1,
        "space": {"workdir": "."},
        "peers": [address for name, address in request.connected_addresses.items() if name != host.name][:2],
    }


def _compute_offset(answer: ProbeAnswer, began: float, ended: float) -> tuple[float, float]:
    """Return (offset, uncertainty) of the host's clock in seconds, from the four times of one exchange, as NTP does."""
    ahead, behind = began - answer.sent, ended - answer.received
    return (ahead + behind) / 2, (ahead - behind) / 2


def _measure_clocks(case: CheckContext, asker: Asker) -> dict[str, tuple[float, float]]:
    """Measure the clock offsets by the smallest question, which is more precise than the slow answer with the facts."""
    names = [name for name in case.hosts if case.facts[name]]
    offsets = dict(case.offsets)
    answers = asker.ask([ProbeRequest(host=name, what="clock", timeout=_CLOCK_SECONDS) for name in names])
    for name, answer in zip(names, answers, strict=True):
        if not answer.error and answer.received:
            seen = _compute_offset(answer, answer.value["time"], answer.value["time"])
            offsets[name] = min(offsets.get(name, seen), seen, key=lambda offset: offset[1])
    return offsets


# -- the second round: host 0's port


@contextmanager
def _open_listener(asker: Asker, host: str, port: int, key: str) -> Iterator[ProbeAnswer]:
    """Open a listener on ``host`` until the block ends."""
    args = {"port": port, "key": key, "seconds": _LISTEN_SECONDS}
    (answer,) = asker.ask([ProbeRequest(host=host, what="listen", args=args, timeout=_LISTEN_SECONDS, holds=True)])
    try:
        yield answer
    finally:
        if answer.handle:
            asker.cancel(host, answer.handle)


def _test_port(case: CheckContext, asker: Asker) -> PortTest:
    request = case.request
    first, port = request.first_host, request.master_port
    if not case.facts.get(first.name):
        return PortTest(port=port, unasked=f"{first.name}, which is host 0, did not answer")
    tried = list_master_candidates(
        given=request.master_addr,
        addr=first.addr,
        dialled=request.connected_addresses.get(first.name, ""),
        facts=case.facts[first.name],
        alone=len(request.hosts) == 1,
        loopback=is_all_loopback(request.connected_addresses, [host.name for host in request.reached_hosts]),
    )
    key = secrets.token_hex(16)
    with _open_listener(asker, first.name, port, key) as listener:
        if listener.error:
            return PortTest(port=port, candidates=tried, unasked=f"{first.name}: {listener.error}")
        if "error" in listener.value:
            return PortTest(port=port, candidates=tried, problem=listener.value)
        test = _dial_candidates(case, asker, tried, key)
        if asker.is_still_open(first.name, listener.handle):
            return test
        dials = {way: _discard_failure(dial, first.name) for way, dial in test.dials.items()}
        return replace(test, dials=dials)


def _discard_failure(dial: Mapping[str, Any], end: str) -> Mapping[str, Any]:
    """Replace a failure by "unknown": the listener's host lost its connection, so the network may be fine."""
    if dial["outcome"] in ("ok", "unknown"):
        return dial
    return {"outcome": "unknown", "text": f"the connection to {end} broke during the test"}


def _dial_candidates(case: CheckContext, asker: Asker, tried: tuple[str, ...], key: str) -> PortTest:
    """Connect every worker to every candidate at once; choose the first candidate that all reach."""
    first, port = case.request.first_host.name, case.request.master_port
    workers = [name for name in case.hosts if name != first and case.facts[name]]
    targets = [{"addr": address, "port": port, "key": key} for address in tried]
    args = {"targets": targets, "timeout": _DIAL_SECONDS}
    asks = (
        [ProbeRequest(host=name, what="dial", args=args, timeout=4 * _DIAL_SECONDS) for name in workers]
        if tried
        else []
    )
    dials: dict[tuple[str, str], Mapping[str, Any]] = {}
    for name, answer in zip(workers, asker.ask(asks) if asks else (), strict=False):
        dials.update(_collect_outcomes(name, tried, answer))
    reached = [address for address in tried if all(dials[name, address]["outcome"] == "ok" for name in workers)]
    return PortTest(port=port, candidates=tried, dials=dials, chosen=reached[0] if reached else "")


# -- the third round: every host to every other


def _test_mesh(case: CheckContext, asker: Asker) -> MeshTest:
    """Open a free port on every host and connect its partners, with enough bytes to fill large packets."""
    places = interfaces.find_addresses(case)
    names = [name for name in case.hosts if name in places and case.facts[name]]
    if len(case.request.hosts) == 1 or len(names) < 2:
        return MeshTest(
            unasked="one host needs no network" if len(case.request.hosts) == 1 else "no two hosts answered"
        )
    return probe_connections(names, places, asker)


def probe_connections(names: Sequence[str], places: Mapping[str, str], asker: Asker) -> MeshTest:
    """Test the connections between these hosts in both directions, at the addresses in ``places``."""
    key = secrets.token_hex(16)
    with ExitStack() as listeners:
        ports = _open_listeners(asker, names, key, listeners)
        pairs = [(start, end) for start, end in mesh.choose_pairs(names) if end in ports]
        asks = []
        for start in names:
            ends = [end for begin, end in pairs if begin == start]
            targets = [{"addr": places[end], "port": ports[end][0], "key": key} for end in ends]
            args = {"targets": targets, "timeout": _DIAL_SECONDS, "bytes": _BULK}
            asks.append(ProbeRequest(host=start, what="dial", args=args, timeout=5 * _DIAL_SECONDS))
        dials: dict[tuple[str, str], Mapping[str, Any]] = {}
        for start, answer in zip(names, asker.ask(asks), strict=True):
            dials.update(_collect_outcomes(start, [end for begin, end in pairs if begin == start], answer))
        closed = {end for end, (_, handle) in ports.items() if not asker.is_still_open(end, handle)}
        dials = {way: _discard_failure(dial, way[1]) if way[1] in closed else dial for way, dial in dials.items()}
    return MeshTest(addresses=places, dials=dials, whole=len(names) <= mesh.MOST_WHOLE)


def _open_listeners(asker: Asker, names: Sequence[str], key: str, listeners: ExitStack) -> dict[str, tuple[int, int]]:
    """Return host -> (the free port on which it listens until ``listeners`` closes, the handle of the question)."""
    seconds = _LISTEN_SECONDS * (1 if len(names) <= WAVE else 6)  # enough for all waves of connections
    args = {"port": 0, "key": key, "seconds": seconds}
    answers = asker.ask(
        [ProbeRequest(host=name, what="listen", args=args, timeout=seconds, holds=True) for name in names]
    )
    ports = {}
    for name, answer in zip(names, answers, strict=True):
        if answer.handle:
            listeners.callback(asker.cancel, name, answer.handle)
        if not answer.error and "port" in answer.value:
            ports[name] = int(answer.value["port"]), answer.handle
    return ports


def _collect_outcomes(start: str, ends: Sequence[str], answer: ProbeAnswer) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return the outcome of each connection of a host; a missing outcome is unknown, with the reason."""
    results = answer.value["results"] if not answer.error else []
    unknown = {"outcome": "unknown", "text": answer.error or "no answer"}
    return {(start, end): results[at] if at < len(results) else unknown for at, end in enumerate(ends)}


# -- facts for the plan


def extract_facts(case: CheckContext) -> HostFacts:
    programs, files = case.get_section("programs"), case.get_section("files")
    return HostFacts(
        master_addr=case.port.chosen if case.port else "",
        master_port=case.request.master_port,
        gpus={name: count_gpus(case.facts[name]) for name in case.hosts if case.facts[name]},
        script={name: row.get("script", {}).get("kind") == "file" for name, row in files.items()},
        venv={name: bool(row["venv"]["exists"]) for name, row in programs.items()},
        torchrun={name: str(row["found"]["torchrun"]) for name, row in programs.items()},
        addresses=interfaces.find_addresses(case),
        interfaces=interfaces.find_interfaces(case),
        offsets={name: offset for name, (offset, _) in case.offsets.items()},
        exports=interfaces.build_exports(case),
    )
