"""Diagnosis rules in order: each rule returns the cause, or None so that the next rule runs.

proof      the kernel log names the process that it killed, and the reason
unheard    hosts ended the run by themselves, because their lease expired
numbers    a host took part under another number than its own
pointed    ranks that waited name the rank that they waited for
apart      all ranks but one are at the same place, or wait
early      hosts exited with 0 while the others still worked with them
cut-off    a host was unreachable when the others began to fail
first      the first failure that no other failure explains
silent     all other ranks report a timeout; one does not
vanished   all other ranks lost a peer; of one rank there is no evidence
blamed     hosts that lost a peer name its address
missing-node  ranks that waited at torchrun's rendezvous name the node that never joined
quiet-host one host reported no failure while the ranks of all others timed out or lost a peer
left       weak evidence, if there is nothing better
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from fanout.diagnose.candidates import FAINT, STRONG, WEAK, Candidate
from fanout.diagnose.evidence import LogMatch
from fanout.diagnose.rule_context import RuleContext, RuleResult
from fanout.diagnose.rules import absent_hosts, flight_recorder, lease_expired, node_rank, outlier, timeouts
from fanout.diagnose.signatures import GENERIC
from fanout.diagnose.verdict import Cause, Confidence
from fanout.logs import rank_prefix


def find_proof(case: RuleContext) -> RuleResult | None:
    """Return the process whose death a kernel log line (or an OOM kill counter) proves."""
    for seen in (each for each in case.evidence.sightings if each.kind == "kernel"):
        pid = rank_prefix.parse_number(seen.fields.get("pid"))
        here = [each for each in case.suspects if each.host == seen.host and each.has_ended]
        for suspect in here:
            if pid is not None and pid in _list_pids(suspect):
                return _build_proof(
                    suspect, seen.signature, seen.says, f"{seen.file}:{seen.line}: {seen.text}", seen.advice
                )
    for suspect in case.suspects:
        code = (
            suspect.death.code
            if suspect.death
            else -(suspect.over.signal or 0) or suspect.over.code
            if suspect.over
            else 0
        )
        killed = code in (-9, 137) or suspect.signature in ("loader-killed", "shell-killed")
        if suspect.over is not None and suspect.over.oom and killed:
            text = f"the kernel of {suspect.host} OOM-killed a process of this run"
            advice = (
                "use fewer data loader workers, less pinned memory or a smaller batch; `dmesg` there names the process"
            )
            return _build_proof(suspect, "kernel-oom", "was OOM-killed", text, advice)
    return None


def _list_pids(suspect: Candidate) -> set[int]:
    """Return the pids behind the candidate: its own, and those that its error names (data loader workers)."""
    named = suspect.sighting.fields if suspect.sighting is not None else {}
    texts = f"{named.get('pid', '')} {named.get('pids', '')}".replace(",", " ").split()
    found = {pid for text in texts if (pid := rank_prefix.parse_number(text)) is not None}
    return found | ({suspect.death.pid} if suspect.death is not None else set())


def _build_proof(suspect: Candidate, signature: str, says: str, text: str, advice: str) -> RuleResult:
    cause = replace(suspect.build_cause(), signature=signature, says=says)
    return RuleResult(cause=cause, confidence="high", evidence=(text,), suspect=suspect, advice=(advice,))


def find_pointed(case: RuleContext) -> RuleResult | None:
    """Return the rank that others waited for. If it has an error of its own, that error is the cause."""
    named: Counter[int] = Counter()
    texts: dict[int, LogMatch] = {}
    for seen in (each for each in case.evidence.sightings if each.kind == "names"):
        for rank in _parse_ranks(seen):
            if rank != seen.rank:
                named[rank] += 1
                texts.setdefault(rank, seen)
    named.update(_find_behind(case))
    victims = {each.rank for each in case.processes if each.part == "victim"}
    ranks = [rank for rank in sorted(named) if rank not in victims]
    hosts = {case.world.find_host(rank) for rank in ranks}
    if not ranks or (len(ranks) > 1 and (len(hosts) > 1 or None in hosts)):
        return None
    host = hosts.pop()
    own = [each for each in case.suspects if each.rank in ranks or (each.host == host and each.rank is None)]
    others = [each for each in case.suspects if each.strength == STRONG and each not in own]
    seen_text = tuple(
        f"{texts[rank].file}:{texts[rank].line}: {texts[rank].text}" for rank in ranks[:1] if rank in texts
    )
    if own:
        found = _find_first_of(case, tuple(own))
        if found is None or any(each.end < found.cause.at - case.evidence.error for each in others if found.cause.at):
            return None  # another rank failed before: the order of events decides
        return replace(found, evidence=(*found.evidence, *seen_text))
    if others or host is None:
        return None  # another rank has an error of its own: the order of events decides
    alone = ranks[0] if len(ranks) == 1 else None
    says = "did not reach the point where the others waited for it"
    cause = Cause(signature="missing", says=says, host=host, rank=alone, ranks=tuple(ranks), hosts=(host,))
    refute = f"a log line of {cause.subject} that shows it waiting like the others"
    return RuleResult(cause=cause, confidence="medium", evidence=seen_text, refutes=(refute,), advice=(timeouts.LOOK,))


def find_recorded(case: RuleContext) -> RuleResult | None:
    """Return the rank that the flight recorders of the others name. A lost host or an own error explains more."""
    pointer = flight_recorder.find_cause(case)
    if pointer is None:
        return None
    cause = pointer.cause
    named = {rank for each in (cause, *pointer.also) for rank in each.ranks}
    reasons = [each for each in case.suspects if outlier.is_own_failure(each)]
    own = tuple(each for each in reasons if each.rank in named or (each.rank is None and each.host in cause.hosts))
    if any(each not in own and (each.strength == STRONG or each.signature == "lost") for each in reasons):
        return None  # the order of events decides
    if own:
        found = _find_first_of(case, own)
        return None if found is None else replace(found, evidence=(*found.evidence, *pointer.evidence))
    refute = f"a dump that {cause.subject} wrote later and that shows it where the others are"
    return RuleResult(
        cause=cause, confidence=pointer.confidence, evidence=pointer.evidence, also=pointer.also, refutes=(refute,),
        advice=(_BRANCH if cause.signature == "mismatch" else timeouts.LOOK,),
    )  # fmt: skip


_BRANCH = "check which branch of the code, or which batch, made its collective differ from the others"


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


def find_first(case: RuleContext) -> RuleResult | None:
    """Return the first failure that no other one explains, with candidates that may be as early."""
    return _find_first_of(case, tuple(each for each in case.suspects if each.strength > FAINT))


def find_weak(case: RuleContext) -> RuleResult | None:
    """Return the first weak candidate if there is no better evidence."""
    return _find_first_of(case, case.suspects)


def _find_first_of(case: RuleContext, among: tuple[Candidate, ...]) -> RuleResult | None:
    if not among:
        return None
    strength = max(each.strength for each in among)
    strong = [each for each in among if each.strength == strength]
    begun = min(strong, key=lambda each: (each.end, each.sighting.line if each.sighting else 0))
    alike = [each for each in strong if each.same_as == begun.same_as and _is_as_early(case, each, begun)]
    begun = min((begun, *alike), key=_sort_key)
    same = [each for each in case.suspects if each is not begun and each.same_as == begun.same_as]
    if strength == FAINT and len({each.host for each in (begun, *same)}) > 1:
        return None  # scripts that exit with 1 without an error are no evidence
    rivals = [each for each in strong if each is not begun and each not in same and _is_as_early(case, each, begun)]
    earlier = [
        each
        for each in among
        if each.strength < strength
        and each.strength > FAINT
        and each.end + case.compute_margin(each, begun) < begun.begin
    ]
    others = _drop_duplicates([*rivals, *earlier])
    return RuleResult(
        cause=begun.build_cause(same),
        confidence=_rate_confidence(case, begun, same, others),
        evidence=_explain_first(case, begun, same, others),
        suspect=begun,
        also=tuple(each.build_cause() for each in others),
        refutes=_list_refutes(case, begun),
    )


def _sort_key(suspect: Candidate) -> tuple[bool, int]:
    """Return a sort key: processes that exited by themselves before those that torchrun stopped, then by rank."""
    was_stopped = suspect.death is not None and suspect.death.was_stopped
    return was_stopped, -1 if suspect.rank is None else suspect.rank


def _list_refutes(case: RuleContext, begun: Candidate) -> tuple[str, ...]:
    if len(case.evidence.hosts) < 2:
        return ()
    return (f"an error on another host before {begun.host}'s, missing from these logs",)


def _is_as_early(case: RuleContext, other: Candidate, begun: Candidate) -> bool:
    if other.sighting is not None and begun.sighting is not None and other.sighting.file == begun.sighting.file:
        return other.sighting.line <= begun.sighting.line  # one file has one order
    return other.begin <= begun.end + case.compute_margin(other, begun)


def _drop_duplicates(found: list[Candidate]) -> list[Candidate]:
    """Return one candidate for each error."""
    first_of: dict[tuple[str, str], Candidate] = {}
    for each in sorted(found, key=lambda each: each.end):
        first_of.setdefault(each.same_as, each)
    return list(first_of.values())


def _rate_confidence(case: RuleContext, begun: Candidate, same: list[Candidate], others: list[Candidate]) -> Confidence:
    if others or begun.strength == FAINT or _is_common_error(case, begun, same):
        return "low"
    if same and begun.sighting is None:  # several without an error: one may have caused the exit of the others
        return "medium" if len({each.host for each in (begun, *same)}) == 1 else "low"
    if begun.strength == WEAK:
        if _is_sole_failure(case, begun):
            return "high"
        return "medium" if begun.signature in ("lost", "exit", "signal") and len(case.evidence.hosts) > 1 else "low"
    seen = begun.sighting
    known = begun.has_ended or (seen is not None and (seen.rank is not None or seen.kind == "end"))
    return "high" if known else "medium"


def _is_sole_failure(case: RuleContext, begun: Candidate) -> bool:
    """Return whether the script failed with its own code while the scripts of all other hosts still ran."""
    if begun.over is None or begun.over.kind != "ended" or begun.death is not None or begun.over.code in (None, 1):
        return False
    ends = case.evidence.ends
    others = [host for host in case.evidence.hosts if host != begun.host]
    return bool(others) and all(host in ends and ends[host].kind == "stopped" for host in others)


def _is_common_error(case: RuleContext, begun: Candidate, same: list[Candidate]) -> bool:
    """Return whether most but not all ranks raised an unknown error: a rank without it may be the cause."""
    everyone = case.world.all_ranks()
    share = len({each.rank for each in (begun, *same) if each.rank is not None})
    return begun.signature == GENERIC and 1 < share < len(everyone) < 2 * share


def _explain_first(
    case: RuleContext, begun: Candidate, same: list[Candidate], others: list[Candidate]
) -> tuple[str, ...]:
    out: list[str] = []
    apart = f"±{case.evidence.error:g} s"
    if others:
        out.append(
            f"{len(others) + 1} candidates cannot be put in order: their times are closer than {apart}, and reports lag"
        )
    elif len(case.suspects) > 1 + len(same):
        out.append("it is the first failure that no other failure explains")
    else:
        out.append("it is the only failure that no other failure explains")
    if same:
        hosts = len({each.host for each in (begun, *same)})
        word = "report the same error" if begun.sighting else "ended in the same way"
        out.append(f"{len(same) + 1} processes on {hosts} host{'s' if hosts > 1 else ''} {word}")
    if case.victim_matches:
        many = len(case.victim_matches) > 1
        who = f"{len(case.victim_matches)} others report only that they" if many else "one other reports only that it"
        out.append(f"{who} lost a peer or timed out")
    return tuple(out)


Rule = Callable[[RuleContext], RuleResult | None]
RULES: tuple[tuple[str, Rule], ...] = (
    ("proof", find_proof),
    ("unheard", lease_expired.find_expired_lease),
    ("numbers", node_rank.find_wrong_number),
    ("pointed", find_pointed),
    ("pointed", find_recorded),
    ("apart", outlier.find_outlier),
    ("early", absent_hosts.find_early_exit),
    ("cut-off", absent_hosts.find_unreachable_host),
    ("first", find_first),
    ("silent", timeouts.find_silent_rank),
    ("vanished", outlier.find_vanished_rank),
    ("blamed", timeouts.find_blamed_host),
    ("vanished", outlier.find_vanished_host),
    ("nobody", timeouts.find_network_failure),  # ranks on all hosts timed out, and none is missing
    ("missing-node", absent_hosts.find_missing_node),
    ("quiet-host", absent_hosts.find_quiet_host),
    ("left", find_weak),
)
