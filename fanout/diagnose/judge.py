"""Diagnosis engine: apply the rules to the evidence and sort the other ranks into classes. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fanout.diagnose import flights, stacks
from fanout.diagnose.case import Case, Finding
from fanout.diagnose.decode import short
from fanout.diagnose.evidence import Evidence
from fanout.diagnose.lastlines import quotation
from fanout.diagnose.processes import Process, World, processes, world_of
from fanout.diagnose.rules import RULES
from fanout.diagnose.suspects import suspects
from fanout.diagnose.verdict import Cause, Party, Verdict


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict: the first cause as far as the evidence shows it."""
    world = world_of(evidence)
    known = processes(evidence, world)
    case = Case(evidence, world, known, suspects(evidence, known))
    for name, rule in RULES:
        found = rule(case)
        if found is not None:
            return _verdict(name, found, case)
    return _verdict("", None, case)


def _verdict(rule: str, found: Finding | None, case: Case) -> Verdict:
    guilty = _guilty(found)
    others = [each for each in case.processes if (each.host, each.rank) not in guilty]
    lost = [Party(host=host, rank=None, how=end.why) for host, end in case.evidence.ends.items() if end.kind == "lost"]
    return Verdict(
        cause=_placed(_with_stack(found.cause, case.evidence), case) if found else None,
        confidence=found.confidence if found else "undetermined",
        rule=rule,
        also=tuple(_placed(each, case) for each in found.also) if found else (),
        victims=tuple(_party(each) for each in others if each.part not in ("collateral",)),
        collateral=tuple(_party(each) for each in others if each.part == "collateral"),
        silent=_silent(case.world, case.processes, guilty, case.evidence),
        lost=tuple(each for each in lost if (each.host, None) not in guilty),
        evidence=found.evidence if found else _seen(case),
        refutes=found.refutes if found else (),
        advice=_advice(found),
        stands=stacks.sentences(case.evidence.stands),
        hosts=(*case.evidence.notes, *flights.strangers(case)),
    )


def _placed(cause: Cause, case: Case) -> Cause:
    """Return the cause with its local rank, its GPU, and its last log lines if nothing else is quoted."""
    ranks = case.world.ranks.get(cause.host or "", range(0))
    local = cause.local_rank
    if local is None and cause.rank is not None and cause.rank in ranks:
        local = cause.rank - ranks[0]
    gpus = case.evidence.gpus.get(cause.host or "", ())
    everyone = case.world.all()
    whole = len(everyone) > 1 and case.world.complete(case.evidence.hosts) and everyone.keys() <= {*cause.ranks}
    quote: tuple[str, ...] = ()
    if cause.host is not None and not cause.traceback and not cause.text:
        quote = quotation(case.evidence.tails, cause.host, cause.rank)
    gpu = gpus[local] if local is not None and local < len(gpus) else ""
    return replace(cause, local_rank=local, gpu=gpu, whole=whole, quote=quote)


def _with_stack(cause: Cause, evidence: Evidence) -> Cause:
    """Add the stack that a process left when a signal killed it, if it has no traceback."""
    stands = [each for each in evidence.stands if (each.host, each.rank) == (cause.host, cause.rank) and each.frames]
    if cause.traceback or cause.text or not stands or cause.rank is None:
        return cause
    lines = [f'  File "{file}", line {line}, in {name}' for file, line, name in reversed(stands[-1].frames)]
    return replace(cause, traceback=(f"Stack ({stands[-1].crash or 'most recent call last'}):", *lines))


def _guilty(found: Finding | None) -> set[tuple[str, int | None]]:
    if found is None:
        return set()
    out: set[tuple[str, int | None]] = set()
    for cause in (found.cause, *found.also):
        if cause.host is not None:
            out.add((cause.host, cause.rank))
        out |= {(host, rank) for rank in cause.ranks for host in cause.hosts}
    return out


def _party(process: Process) -> Party:
    if process.sightings:
        how = process.sightings[0].says
    elif process.death is not None:
        how = f"{short(process.death.code)} from torchrun" if process.death.told else short(process.death.code)
    else:
        how = ""
    return Party(host=process.host, rank=process.rank, how=how)


def _silent(
    world: World, known: Sequence[Process], guilty: set[tuple[str, int | None]], evidence: Evidence
) -> tuple[Party, ...]:
    """Return the ranks without any error, exit or stack, on hosts that did not end well."""
    stood = {stand.rank for stand in evidence.stands if stand.frames}
    heard = {each.rank for each in known} | {rank for _, rank in guilty} | stood
    vague = {each.host for each in known if each.rank is None} | {host for host, rank in guilty if rank is None}
    well = {host for host, end in evidence.ends.items() if end.kind in ("lost", "stopped") or end.code == 0 or end.why}
    return tuple(
        Party(host=host, rank=rank, how="no error and no exit are known")
        for rank, host in sorted(world.all().items())
        if rank not in heard and host not in vague | well
    )


def _seen(case: Case) -> tuple[str, ...]:
    """Return the available evidence if no rule finds a cause."""
    lines = [f"{seen.host}: {seen.text}" for seen in case.waited[:4]]
    ends = [
        f"{host}: {end.kind}" + (f", exit {end.code}" if end.code else "") for host, end in case.evidence.ends.items()
    ]
    return tuple(lines or ends[:4])


def _advice(found: Finding | None) -> tuple[str, ...]:
    if found is None:
        return ("run again with NCCL_DEBUG=WARN TORCH_DISTRIBUTED_DEBUG=DETAIL", "fanout check HOSTS")
    own: tuple[str, ...] = ()
    if found.suspect is not None:
        seen = found.suspect.sighting
        own = (seen.advice,) if seen is not None else _by_end(found)
    return tuple(dict.fromkeys(text for text in (*found.advice, *own) if text))


def _by_end(found: Finding) -> tuple[str, ...]:
    cause = found.cause
    if cause.signature == "lost":
        return (f"check whether {cause.host} is up: its uptime and `dmesg` show whether it restarted",)
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
