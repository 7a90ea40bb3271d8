"""First failure rules: of the candidates of one level of evidence, the earliest; others that may be as early are named too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fanout.diagnose.candidates import Candidate
from fanout.diagnose.evidence_order import (
    ALIKE,
    ANONYMOUS,
    CHAIN,
    COMMON,
    CONTINUED,
    MISMATCH,
    NOTICED,
    ONE_HOST,
    ORDER,
    SAME_HOST,
    UNNOTICED,
    Doubt,
    LevelName,
    compare_levels,
)
from fanout.diagnose.rule_context import RuleContext, RuleResult
from fanout.diagnose.signatures import GENERIC
from fanout.text.units import count_noun

_MISMATCHES = (
    "nccl-version",
    "nccl-world-size",
    "nccl-rank-twice",
    "nccl-crossed",
    "nccl-nic-count",
    "collective-mismatch",
)
_NOTICED = ("gloo-size", "nccl-truncated")  # logged by the rank that notices a mismatch

#: Lines after an anonymous error that make it doubtful.
CONTINUED_LINES = 20


def find_own_failure(case: RuleContext) -> RuleResult | None:
    """Return the first process with proof, or with an error or exit of its own."""
    return find_first_of(case, case.own_failures)


def build_level_rule(level: LevelName) -> Callable[[RuleContext], RuleResult | None]:
    """Build the rule that returns the first candidate of one level."""
    return lambda case: find_first_of(case, tuple(each for each in case.suspects if each.level == level))


def find_first_of(case: RuleContext, among: Sequence[Candidate]) -> RuleResult | None:
    """Return the first of these candidates, which are of one level (or of the two strong levels)."""
    if not among:
        return None
    begun = min(among, key=lambda each: (each.end, each.sighting.line if each.sighting else 0))
    tied = [each for each in among if _is_as_early(case, each, begun)]
    if any(compare_levels(each.level, begun.level) < 0 for each in tied):
        begun = min(tied, key=lambda each: (compare_levels(each.level, "proof"), each.end))
    alike = [each for each in among if each.same_as == begun.same_as and _is_as_early(case, each, begun)]
    begun = min((begun, *alike), key=_sort_key)
    same = [each for each in case.suspects if each is not begun and each.same_as == begun.same_as]
    if begun.level == "bare" and len({each.host for each in (begun, *same)}) > 1:
        return None  # scripts that exit with 1 without an error are no evidence
    rivals = [each for each in among if each is not begun and each not in same and _is_as_early(case, each, begun)]
    others = _drop_duplicates([*rivals, *_list_earlier(case, begun, among)])
    return RuleResult(
        cause=begun.build_cause(same),
        evidence=_explain_first(case, begun, same, others),
        doubts=_list_doubts(case, begun, same, others),
        suspect=begun,
        also=tuple(each.build_cause() for each in others),
        refutes=_list_refutes(case, begun),
    )


def _list_earlier(case: RuleContext, begun: Candidate, among: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates with weaker evidence that surely failed before."""
    return [
        each
        for each in case.suspects
        if each not in among
        and each.level != "bare"
        and compare_levels(each.level, begun.level) > 0
        and each.end + case.compute_margin(each, begun) < begun.begin
    ]


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


def _list_doubts(
    case: RuleContext, begun: Candidate, same: list[Candidate], others: list[Candidate]
) -> tuple[Doubt, ...]:
    """Return the doubts about the first candidate; ``same`` have the same error, ``others`` may be as early."""
    seen, hosts = begun.sighting, {each.host for each in (begun, *same)}
    anonymous = seen is not None and not begun.has_ended and seen.rank is None and seen.kind != "end"
    found = (
        (ORDER, bool(others)),
        (COMMON, _is_common_error(case, begun, same)),
        (ALIKE, bool(same) and seen is None and len(hosts) > 1),
        (SAME_HOST, bool(same) and seen is None and len(hosts) == 1),
        (ONE_HOST, begun.level == "absence" and len(case.evidence.hosts) < 2),
        (ANONYMOUS, anonymous),
        (CONTINUED, anonymous and seen is not None and seen.line > 1 and seen.trailing >= CONTINUED_LINES),
        (UNNOTICED, seen is not None and seen.signature.startswith("ray-") and len(case.evidence.sightings) == 1),
        (CHAIN, seen is not None and seen.followed),
        (MISMATCH, seen is not None and seen.signature in _MISMATCHES),
        (NOTICED, seen is not None and seen.signature in _NOTICED),
    )
    return tuple(doubt for doubt, applies in found if applies)


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
        out.append(f"it is the first of {len(case.suspects)} failures that no other failure explains")
    elif not same and not case.victim_matches:
        out.append("no other process reports an error of its own")
    if same:
        hosts = len({each.host for each in (begun, *same)})
        word = "report the same error" if begun.sighting else "ended in the same way"
        out.append(f"{len(same) + 1} processes on {count_noun(hosts, 'host')} {word}")
    if case.victim_matches:
        many = len(case.victim_matches) > 1
        who = f"{len(case.victim_matches)} others report only that they" if many else "one other reports only that it"
        out.append(f"{who} lost a peer or timed out")
    return tuple(out)
