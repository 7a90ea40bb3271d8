"""Diagnosis engine: apply the rules to the evidence and sort the other ranks into classes. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fanout.diagnose import stack_groups
from fanout.diagnose.candidates import find_candidates
from fanout.diagnose.evidence import Evidence
from fanout.diagnose.evidence_order import EITHER, Doubt, rate_confidence
from fanout.diagnose.exit_codes import format_exit_code
from fanout.diagnose.last_lines import find_last_reading, quote_last_lines
from fanout.diagnose.process_evidence import Process, build_processes
from fanout.diagnose.rule_context import RuleContext, RuleResult
from fanout.diagnose.rules import flight_recorder
from fanout.diagnose.rules.rule_table import RULES, Rule
from fanout.diagnose.signatures import STOPS
from fanout.diagnose.verdict import Cause, Party, Verdict
from fanout.diagnose.world import World, build_world

#: Causes that concern all ranks of a host: if it has only one, the verdict names that rank.
_OF_ALL_RANKS = ("blamed", "quiet-host", "silent-host")

#: Errors about a module that Python does not find.
_MISSING = ("no-module", "no-main-module")


def diagnose_evidence(evidence: Evidence) -> Verdict:
    """Return the verdict: the first cause as far as the evidence shows it."""
    world = build_world(evidence)
    known = build_processes(evidence, world)
    case = RuleContext(evidence, world, known, find_candidates(evidence, known))
    for rule in RULES:
        found = rule.find(case)
        if found is not None:
            return _build_verdict(rule, found, case)
    return _build_verdict(None, None, case)


def _build_verdict(rule: Rule | None, found: RuleResult | None, case: RuleContext) -> Verdict:
    guilty = _list_blamed(found)
    doubts = _list_doubts(rule, found, case) if rule and found else ()
    others = [each for each in case.processes if (each.host, each.rank) not in guilty]
    lost = [Party(host=host, rank=None, how=end.why) for host, end in case.evidence.ends.items() if end.kind == "lost"]
    return Verdict(
        cause=_complete_cause(_add_stack(found.cause, case.evidence), case) if found else None,
        confidence=rate_confidence(rule.level, doubts) if rule else "undetermined",
        rule=rule.id if rule else "",
        doubts=tuple(dict.fromkeys(doubt.reason for doubt in doubts)),
        also=tuple(_complete_cause(each, case) for each in found.also) if found else (),
        victims=tuple(
            _build_party(each) for each in others if each.part != "collateral" and not _was_stopped(each, case)
        ),
        collateral=tuple(_build_party(each) for each in others if each.part == "collateral"),
        silent=_find_silent(case.world, case.processes, guilty, case.evidence),
        lost=tuple(each for each in lost if (each.host, None) not in guilty),
        evidence=found.evidence if found else _list_evidence(case),
        refutes=found.refutes if found else (),
        advice=_collect_advice(found, case),
        stands=stack_groups.describe_stacks(case.evidence.stands),
        hosts=(*case.evidence.notes, *flight_recorder.describe_foreign_dumps(case)),
    )


def _was_stopped(process: Process, case: RuleContext) -> bool:
    """Return whether a torchrun reports only that it was stopped, on a host that fanout stopped."""
    end = case.evidence.ends.get(process.host)
    is_stop = bool(process.sightings) and all(seen.signature in STOPS for seen in process.sightings)
    return process.rank is None and is_stop and end is not None and end.kind == "stopped"


def _list_doubts(rule: Rule, found: RuleResult, case: RuleContext) -> tuple[Doubt, ...]:
    """Return the doubts of the rule. Absence and blame are also doubtful if another host has an error of its own."""
    either = [each for each in case.suspects if each.level == "either" and each.host != found.cause.host]
    return (*found.doubts, *((EITHER,) if either and rule.level in ("absence", "blame") else ()))


def _complete_cause(cause: Cause, case: RuleContext) -> Cause:
    """Return the cause with its local rank, its GPU, its last step, and its last log lines if nothing else is quoted."""
    ranks = case.world.ranks.get(cause.host or "", range(0))
    if cause.rank is None and len(ranks) == 1 and cause.signature in _OF_ALL_RANKS and not case.evidence.live:
        cause = replace(cause, rank=ranks[0], ranks=tuple(ranks))
    local = cause.local_rank
    if local is None and cause.rank is not None and cause.rank in ranks:
        local = cause.rank - ranks[0]
    gpus = case.evidence.gpus.get(cause.host or "", ())
    everyone = case.world.all_ranks()
    whole = len(everyone) > 1 and case.world.has_all(case.evidence.hosts) and everyone.keys() <= {*cause.ranks}
    quote: tuple[str, ...] = ()
    if cause.host is not None and not cause.traceback and not cause.text:
        quote = quote_last_lines(case.evidence.tails, cause.host, cause.rank)
    gpu = gpus[local] if local is not None and local < len(gpus) else ""
    hosts, of_ranks = (
        cause.hosts or (cause.host or "",),
        cause.ranks or ((cause.rank,) if cause.rank is not None else ()),
    )
    if len(hosts) == len(ranks) == 1:
        of_ranks = ()  # the only rank of its host: all lines of the host are its lines, also those without a rank
    last = find_last_reading(case.evidence.tails, hosts, of_ranks)
    step, total = (None, None) if last is None else (last.step, last.total)
    container = case.evidence.containers.get(cause.host or "", "")
    seen = replace(cause, local_rank=local, gpu=gpu, container=container)
    return replace(seen, whole=whole, quote=quote, step=step, total_steps=total)


def _add_stack(cause: Cause, evidence: Evidence) -> Cause:
    """Add the stack that a process left when a signal killed it, if it has no traceback."""
    stands = [each for each in evidence.stands if (each.host, each.rank) == (cause.host, cause.rank) and each.frames]
    if cause.traceback or cause.text or not stands or cause.rank is None:
        return cause
    lines = [f'  File "{file}", line {line}, in {name}' for file, line, name in reversed(stands[-1].frames)]
    return replace(cause, traceback=(f"Stack ({stands[-1].crash or 'most recent call last'}):", *lines))


def _list_blamed(found: RuleResult | None) -> set[tuple[str, int | None]]:
    if found is None:
        return set()
    out: set[tuple[str, int | None]] = set()
    for cause in (found.cause, *found.also):
        if cause.host is not None:
            out.add((cause.host, cause.rank))
        out |= {(host, rank) for rank in cause.ranks for host in cause.hosts}
    return out


def _build_party(process: Process) -> Party:
    if process.sightings:
        how = process.sightings[0].says
    elif process.death is not None:
        how = (
            f"{format_exit_code(process.death.code)} from torchrun"
            if process.death.was_stopped
            else format_exit_code(process.death.code)
        )
    else:
        how = ""
    lost_peer = process.part == "victim" and bool(process.sightings)
    return Party(host=process.host, rank=process.rank, how=how, lost_peer=lost_peer)


def _find_silent(
    world: World, known: Sequence[Process], guilty: set[tuple[str, int | None]], evidence: Evidence
) -> tuple[Party, ...]:
    """Return the ranks without any error, exit or stack, on hosts that did not end well."""
    stood = {stand.rank for stand in evidence.stands if stand.frames}
    heard = {each.rank for each in known} | {rank for _, rank in guilty} | stood
    vague = {each.host for each in known if each.rank is None} | {host for host, rank in guilty if rank is None}
    well = {host for host, end in evidence.ends.items() if end.kind in ("lost", "stopped") or end.code == 0 or end.why}
    return tuple(
        Party(host=host, rank=rank, how="no error and no exit are known")
        for rank, host in sorted(world.all_ranks().items())
        if rank not in heard and host not in vague | well
    )


def _list_evidence(case: RuleContext) -> tuple[str, ...]:
    """Return the available evidence if no rule finds a cause."""
    lines = [f"{seen.host}: {seen.text}" for seen in case.victim_matches[:4]]
    ends = [
        f"{host}: {end.kind}" + (f", exit {end.code}" if end.code else "") for host, end in case.evidence.ends.items()
    ]
    return tuple(lines or ends[:4])


def _collect_advice(found: RuleResult | None, case: RuleContext) -> tuple[str, ...]:
    if found is None:
        return ("run again with NCCL_DEBUG=WARN TORCH_DISTRIBUTED_DEBUG=DETAIL", "fanout check HOSTS")
    own: tuple[str, ...] = ()
    if found.suspect is not None:
        seen = found.suspect.sighting
        own = (seen.advice,) if seen is not None else _advise_by_exit(found)
        if seen is not None and seen.signature in _MISSING and {*found.cause.hosts} >= {*case.evidence.hosts}:
            own = ("install it on every host in the environment of torchrun, or set another environment with --venv",)
    return tuple(dict.fromkeys(text for text in (*found.advice, *own) if text))


def _advise_by_exit(found: RuleResult) -> tuple[str, ...]:
    cause = found.cause
    if cause.signature == "lost":
        return (f"check whether {cause.host} is up: its uptime and `dmesg` show whether it restarted",)
    if cause.signature == "container-ended":
        seen = "`docker events --since 1h --until 0s` or `podman events --since 1h --stream=false`"
        return (f"on {cause.host}: {seen} shows what ended it, `dmesg -T | tail` an OOM kill",)
    if found.suspect is not None and found.suspect.over is not None and found.suspect.over.why:
        look = "`last -x | head`, `journalctl -n 50` and `dmesg -T | tail`"
        return (f"on {cause.host}: {look} show a shutdown, a login whose processes were killed, or the OOM killer",)
    if cause.code in (-9, 137):
        return (f"on {cause.host}: dmesg -T | grep -i 'killed process'; journalctl -u systemd-oomd",)
    if cause.code in (-11, 139, -7, 135, -4, 132, -8, 136):
        return (
            f"on {cause.host}: dmesg -T | tail; run with PYTHONFAULTHANDLER=1 to see the Python stack of the crash",
        )
    if cause.code in (-6, 134):
        return ("see the lines before its end; a Python exit while gloo threads run also ends like this",)
    return ("see its last lines: it exited without a Python error (sys.exit, os._exit, the exit code of a wrapper)",)
