"""Outlier rule: nearly all ranks are at one place, or wait in a collective, and one rank is somewhere else.

The position of a rank is known from its stack (requested, or left at its exit) or from the traceback of a timeout.
Other rules, which come first, handle a rank with an error of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from fanout.diagnose import last_lines, stack_groups
from fanout.diagnose.candidates import Candidate
from fanout.diagnose.evidence_order import MOVED
from fanout.diagnose.rule_context import RuleContext, RuleResult
from fanout.diagnose.rules import timeouts
from fanout.diagnose.stack_groups import CodeLocation
from fanout.diagnose.verdict import Cause

_ADVICE = "check what it did there: a data loader, a checkpoint, a lock, or another branch of the code"
_ABORTS = (-6, 134)


def find_hung_rank(case: RuleContext) -> RuleResult | None:
    """Return the only rank that does not wait, if the stacks of all ranks are known and nothing moved."""
    found = find_outlier(case)
    return None if found is None or MOVED in found.doubts else found


def find_outlier(case: RuleContext) -> RuleResult | None:
    """Return the rank, or the one host, that is at another place than all others."""
    if any(is_own_failure(suspect) for suspect in case.suspects):
        return None
    where = _locate_ranks(case)
    everyone = case.world.all_ranks() or dict.fromkeys(where, "")
    if len(where) < 3 and len(where) < len(everyone):
        return None
    odd = _find_outliers(where)
    if not odd or _has_lost_its_peer_first(case, where, everyone, odd):
        return None
    hosts = {_find_host(case, rank) for rank in odd}
    host = hosts.pop()
    if hosts or not host or len(odd) * 2 > len(where):
        return None
    alone = odd[0] if len(odd) == 1 else None
    theirs = next(iter(_list_others(where, odd)))
    says = f"{where[odd[0]]} while the others {_describe_waiting(theirs)}"
    cause = Cause(
        signature="apart", says=says, host=host, rank=alone, ranks=tuple(odd), hosts=(host,), pid=_find_pid(case, odd)
    )
    seen = f"the position of {len(where)} of {len(everyone)} ranks is known, and all other ranks are at one place"
    doubts = () if _is_surely_hung(case, where, odd) else (MOVED,)
    return RuleResult(cause=cause, evidence=(seen,), doubts=doubts, advice=(_ADVICE,))


def _has_lost_its_peer_first(
    case: RuleContext, where: dict[int, CodeLocation], everyone: Collection[int], odd: list[int]
) -> bool:
    """Return whether an outlier may only be at the place where it lost a peer.

    If every rank has a place and another one timed out, the ranks waited before any of them left: then its place counts.
    """
    kinds = {each.rank: each.sightings[0].kind for each in case.processes if each.sightings}
    hung = len(where) == len(everyone) and any(kinds.get(rank) == "timeout" for rank in where if rank not in odd)
    return not hung and any(kinds.get(rank) == "closed" for rank in odd)


def find_vanished_rank(case: RuleContext) -> RuleResult | None:
    """Return the one rank of a multi-rank host that left no evidence while all other ranks lost a peer."""
    found = find_vanished_host(case)
    host = found.cause.host if found is not None else None
    return found if host is not None and len(case.world.ranks.get(host, ())) > 1 else None


def find_vanished_host(case: RuleContext) -> RuleResult | None:
    """Return the one rank without evidence, also if it is the only one of its host.

    On such hosts the addresses that other hosts report are better evidence, so this rule comes later.
    """
    everyone = case.world.all_ranks()
    known = {each.rank: each for each in case.processes if each.rank is not None}
    quiet = [rank for rank in everyone if rank not in known]
    if len(quiet) != 1 or not any(each.part == "victim" for each in known.values()):
        return None
    if any(each.part not in ("victim", "collateral") or each.rank is None for each in case.processes):
        return None
    (rank,) = quiet
    host = everyone[rank]
    reached = (
        last_lines.find_last_step(case.evidence.tails, host, (rank,))
        if len(case.world.ranks[host]) == 1 or _has_rank_streams(case)
        else None
    )
    at, where = f" at step {reached}" if reached is not None else "", timeouts.describe_location(case)
    says = f"{_VANISHED}{at} while the others {f'were {where}' if where else 'still worked with it'}"
    cause = Cause(signature="vanished", says=says, host=host, rank=rank, ranks=(rank,), hosts=(host,))
    evidence = f"{len(known)} other ranks lost a peer or were stopped, and none of them failed first"
    advice = "a rank with less work than the others ends before them: compare their batches and steps"
    return RuleResult(
        cause=cause,
        evidence=(evidence, f"nothing is known about {cause.subject}"),
        advice=(advice,),
    )


_VANISHED = "disappeared without an error"


def _has_rank_streams(case: RuleContext) -> bool:
    """Return whether each rank had its own stream."""
    return any(tail.rank is not None for tail in case.evidence.tails)


def is_own_failure(suspect: Candidate) -> bool:
    """Return whether the failure is more than the usual effect of a mismatch or a hang."""
    aborted = suspect.death is not None and suspect.death.code in _ABORTS
    return suspect.is_strong or (suspect.level == "absence" and not aborted)


def _locate_ranks(case: RuleContext) -> dict[int, CodeLocation]:
    """Return rank -> position, from its stack, else from the traceback of its timeout."""
    found = {
        each.rank: replace(stack_groups.locate_frames(frames), waits=True)  # it failed in its communication
        for each in case.processes
        if each.rank is not None and each.part == "victim" and each.sightings
        for frames in (stack_groups.parse_frames(each.sightings[0].traceback),)
        if _has_user_frames(frames)
    }
    for stand in case.evidence.stands:
        if stand.rank is not None and (_has_user_frames(stand.frames) or stand.state in "Tt"):
            found.setdefault(stand.rank, stack_groups.locate_snapshot(stand))
    return found or _locate_timeouts(case)


def _locate_timeouts(case: RuleContext) -> dict[int, CodeLocation]:
    """Return rank -> the collective in which it timed out, if all are of the default group.

    The number in brackets is the rank within the group. A rank that is ahead of all others is no outlier.
    """
    found: dict[int, tuple[int, str]] = {}
    for each in case.processes:
        seen = next((seen for seen in each.sightings if seen.signature == "nccl-timeout"), None)
        if seen is None or each.rank is None:
            continue
        if seen.fields.get("member", str(each.rank)) != str(each.rank):
            return {}
        found[each.rank] = int(seen.fields["seq"]), seen.fields["op"]
    groups = sorted(Counter(found.values()).items(), key=lambda item: item[1])
    if len(groups) == 2 and groups[0][0][0] > groups[1][0][0]:
        return {}
    return {
        rank: CodeLocation(what=f"{op} number {number}", where="", waits=True) for rank, (number, op) in found.items()
    }


def _has_user_frames(frames: Sequence[tuple[str, int, str]]) -> bool:
    """Return whether any frame is user code. torchrun's own tracebacks do not show the position of a rank."""
    return any(not stack_groups.LIBRARY.search(file) for file, _, _ in frames)


def _find_outliers(where: dict[int, CodeLocation]) -> list[int]:
    """Return the ranks that do not wait while the others do; else the one that waits elsewhere."""
    elsewhere = [rank for rank, place in where.items() if not place.waits]
    if elsewhere:
        same = {where[rank] for rank in elsewhere}
        return sorted(elsewhere) if len(same) == 1 and len(elsewhere) < len(where) else []
    groups: dict[str, list[int]] = {}
    for rank, place in where.items():
        groups.setdefault(place.where or place.what, []).append(rank)  # frames of torch may be missing
    if len(groups) != 2:
        return []
    few, many = sorted(groups.values(), key=len)
    return few if len(few) == 1 and len(many) > 1 else []


def _list_others(where: dict[int, CodeLocation], odd: list[int]) -> list[CodeLocation]:
    return [place for rank, place in where.items() if rank not in odd]


def _describe_waiting(place: CodeLocation) -> str:
    return f"wait in {place.what}" + (f" ({place.where})" if place.where else "")


def _find_host(case: RuleContext, rank: int) -> str:
    known_host = next((stand.host for stand in case.evidence.stands if stand.rank == rank), None)
    return case.world.find_host(rank) or known_host or ""


def _find_pid(case: RuleContext, odd: list[int]) -> int | None:
    return next((stand.pid for stand in case.evidence.stands if len(odd) == 1 and stand.rank == odd[0]), None)


def _is_surely_hung(case: RuleContext, where: dict[int, CodeLocation], odd: list[int]) -> bool:
    """Return whether all stacks are known, nothing moved, and the outlier does not wait."""
    still = all(stand.moved is False for stand in case.evidence.stands) and bool(case.evidence.stands)
    whole = len(where) == len(case.world.all_ranks()) and len(where) > 2
    return still and whole and not where[odd[0]].waits
