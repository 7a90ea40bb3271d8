"""Named rank rules: ranks that waited, or the flight recorders of all ranks, name the rank that they waited for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from fanout.diagnose.candidates import Candidate
from fanout.diagnose.evidence import LogMatch
from fanout.diagnose.rule_context import RuleContext, RuleResult
from fanout.diagnose.rules import first_failure, flight_recorder, timeouts
from fanout.diagnose.verdict import Cause
from fanout.logs import rank_prefix


def find_named_failure(case: RuleContext) -> RuleResult | None:
    """Return the rank that others waited for and that has an error of its own, unless another rank failed before."""
    ranks, host, texts = _find_named(case)
    own = [each for each in case.own_failures if _is_named(each, ranks, host)]
    found = first_failure.find_first_of(case, own)
    if found is None or _has_earlier_failure(case, found, own):
        return None
    return replace(found, evidence=(*found.evidence, *texts))


def find_named_rank(case: RuleContext) -> RuleResult | None:
    """Return the rank, or the ranks of one host, that others waited for."""
    ranks, host, texts = _find_named(case)
    if host is None:
        return None
    own = [each for each in case.suspects if _is_named(each, ranks, host)]
    found = first_failure.find_first_of(case, own)
    if found is not None:
        return replace(found, evidence=(*found.evidence, *texts))
    if own:
        return None
    alone = ranks[0] if len(ranks) == 1 else None
    says = "did not reach the point where the others waited for it"
    cause = Cause(signature="missing", says=says, host=host, rank=alone, ranks=ranks, hosts=(host,))
    refute = f"a log line of {cause.subject} that shows it waiting like the others"
    return RuleResult(cause=cause, evidence=texts, refutes=(refute,), advice=(timeouts.LOOK,))


def find_recorded_failure(case: RuleContext) -> RuleResult | None:
    """Return the rank that the flight recorders of the others name and that has an error of its own."""
    pointer = flight_recorder.find_cause(case) if case.own_failures else None
    if pointer is None:
        return None
    named = {rank for each in (pointer.cause, *pointer.also) for rank in each.ranks}
    own = [each for each in case.own_failures if _is_recorded(each, named, pointer.cause)]
    if len(own) < len(case.own_failures):
        return None  # the order of time decides
    found = first_failure.find_first_of(case, own)
    return replace(found, evidence=(*found.evidence, *pointer.evidence)) if found is not None else None


def find_recorded_rank(case: RuleContext) -> RuleResult | None:
    """Return the rank that the flight recorders of the others name. A lost host explains more."""
    pointer = flight_recorder.find_cause(case)
    if pointer is None:
        return None
    cause = pointer.cause
    named = {rank for each in (cause, *pointer.also) for rank in each.ranks}
    known = [each for each in case.suspects if each.level == "absence"]
    own = [each for each in known if _is_recorded(each, named, cause)]
    if any(each.signature == "lost" for each in known if each not in own):
        return None
    found = first_failure.find_first_of(case, own)
    if found is not None:
        return replace(found, evidence=(*found.evidence, *pointer.evidence))
    refute = f"a dump that {cause.subject} wrote later and that shows it where the others are"
    return RuleResult(
        cause=cause,
        evidence=pointer.evidence,
        doubts=pointer.doubts,
        also=pointer.also,
        refutes=(refute,),
        advice=(_BRANCH if cause.signature == "mismatch" else timeouts.LOOK,),
    )


_BRANCH = "check which branch of the code, or which batch, made its collective differ from the others"


def _find_named(case: RuleContext) -> tuple[tuple[int, ...], str | None, tuple[str, ...]]:
    """Return the ranks that others name, if they are on one known host; the host; and the lines that name them."""
    named: Counter[int] = Counter()
    texts: dict[int, LogMatch] = {}
    for seen in (each for each in case.evidence.sightings if each.kind == "names"):
        for rank in _parse_ranks(seen):
            if rank != seen.rank:
                named[rank] += 1
                texts.setdefault(rank, seen)
    named.update(_find_behind(case))
    victims = {each.rank for each in case.processes if each.part == "victim"}
    ranks = tuple(rank for rank in sorted(named) if rank not in victims)
    hosts = {case.world.find_host(rank) for rank in ranks}
    if not ranks or (len(ranks) > 1 and (len(hosts) > 1 or None in hosts)):
        return (), None, ()
    seen_text = (f"{texts[ranks[0]].file}:{texts[ranks[0]].line}: {texts[ranks[0]].text}",) if ranks[0] in texts else ()
    return ranks, hosts.pop(), seen_text


def _is_named(suspect: Candidate, ranks: tuple[int, ...], host: str | None) -> bool:
    return suspect.rank in ranks or (suspect.host == host and suspect.rank is None)


def _is_recorded(suspect: Candidate, named: set[int], cause: Cause) -> bool:
    return suspect.rank in named or (suspect.rank is None and suspect.host in cause.hosts)


def _has_earlier_failure(case: RuleContext, found: RuleResult, own: list[Candidate]) -> bool:
    """Return whether another rank surely failed before: the order of time decides then."""
    at = found.cause.at
    return any(at and each.end < at - case.evidence.error for each in case.own_failures if each not in own)


def _parse_ranks(seen: LogMatch) -> list[int]:
    text = seen.fields.get("ranks") or seen.fields.get("rank") or ""
    numbers = (rank_prefix.parse_number(word) for word in text.replace(",", " ").split())
    return [number for number in numbers if number is not None]


def _find_behind(case: RuleContext) -> dict[int, int]:
    """Return the one rank that started fewer collectives than all others, from NCCL's counters."""
    begun = {
        each.rank: int(each.fields["enqueued"])
        for each in case.evidence.sightings
        if each.signature == "nccl-progress" and each.rank is not None
    }
    if len(begun) < 2 or len(begun) < len(case.world.all_ranks()):
        return {}
    least = min(begun.values())
    last = [rank for rank, count in begun.items() if count == least]
    return {last[0]: 1} if len(last) == 1 else {}
