"""The odd one out: nearly all ranks stand at one place, or wait in a collective, and one is somewhere else.

Where a rank stood is known from its stack (asked for, or left when it was ended) and from the traceback of one that
waited in vain. A rank with an error of its own is the business of other rules, which come first.
"""

from __future__ import annotations

from collections.abc import Sequence

from fanout.diagnose import lastlines, stacks, waited
from fanout.diagnose.case import Case, Finding
from fanout.diagnose.stacks import Place
from fanout.diagnose.suspects import FAINT, STRONG, Suspect
from fanout.diagnose.verdict import Cause, Confidence

_ADVICE = "see what it did there: a loader, a checkpoint, a lock, another branch of the code"
_ABORTS = (-6, 134)
_NOTICED = ("gloo-size",)  # said by whoever notices a mismatch, which need not be who is wrong


def rule(case: Case) -> Finding | None:
    """The rank, or the one host, that is apart from all others."""
    if any(is_a_reason(suspect) for suspect in case.suspects):
        return None
    where = _places(case)
    everyone = case.world.all() or dict.fromkeys(where, "")
    if len(where) < 3 and len(where) < len(everyone):
        return None
    odd = _odd(where)
    if not odd:
        return None
    hosts = {_host(case, rank) for rank in odd}
    host = hosts.pop()
    if hosts or not host or len(odd) * 2 > len(where):
        return None
    alone = odd[0] if len(odd) == 1 else None
    theirs = next(iter(_others(where, odd)))
    says = f"{where[odd[0]]} while the others {_plural(theirs)}"
    cause = Cause(
        signature="apart", says=says, host=host, rank=alone, ranks=tuple(odd), hosts=(host,), pid=_pid(case, odd)
    )
    seen = f"where {len(where)} of {len(everyone)} ranks stood is known, and all others stood together"
    return Finding(cause=cause, confidence=_sure(case, where, odd), evidence=(seen,), advice=(_ADVICE,))


def vanished(case: Case) -> Finding | None:
    """All others lost a peer, and of one rank of a host nothing is known: it left for whatever reason, but in silence."""
    found = vanished_host(case)
    host = found.cause.host if found is not None else None
    return found if host is not None and len(case.world.ranks.get(host, ())) > 1 else None


def vanished_host(case: Case) -> Finding | None:
    """The same of a rank that is its host's only one; addresses that the others name are the better evidence there."""
    everyone = case.world.all()
    known = {each.rank: each for each in case.processes if each.rank is not None}
    quiet = [rank for rank in everyone if rank not in known]
    if len(quiet) != 1 or not any(each.part == "victim" for each in known.values()):
        return None
    if any(each.part not in ("victim", "collateral") or each.rank is None for each in case.processes):
        return None
    (rank,) = quiet
    host = everyone[rank]
    reached = (
        lastlines.step(case.evidence.tails, host, (rank,)) if len(case.world.ranks[host]) == 1 or _split(case) else None
    )
    at, where = f" at step {reached}" if reached is not None else "", waited.where(case)
    says = f"{_VANISHED}{at} while the others {f'were {where}' if where else 'still worked with it'}"
    cause = Cause(signature="vanished", says=says, host=host, rank=rank, ranks=(rank,), hosts=(host,))
    told = f"{len(known)} others lost a peer or were ended, and none of them began it"
    advice = "a rank that has less to do than the others ends before them: compare their batches and steps"
    return Finding(
        cause=cause, confidence="medium", evidence=(told, f"of {cause.who} nothing is known"), advice=(advice,)
    )


_VANISHED = "went away without a word"


def _split(case: Case) -> bool:
    """Return whether the ranks had streams of their own."""
    return any(tail.rank is not None for tail in case.evidence.tails)


def is_a_reason(suspect: Suspect) -> bool:
    """Is its end more than what a mismatch or a hang brings about by itself?"""
    if suspect.strength == STRONG:
        return True
    aborted = suspect.death is not None and suspect.death.code in _ABORTS
    doubtful = suspect.signature in _NOTICED
    return suspect.strength > FAINT and not aborted and not doubtful


def _places(case: Case) -> dict[int, Place]:
    """Rank -> where it stood: by its stack, else by the traceback of its waiting in vain."""
    found = {
        each.rank: stacks.place(frames)
        for each in case.processes
        if each.rank is not None and each.part == "victim" and each.sightings
        for frames in (stacks.frames_of(each.sightings[0].traceback),)
        if _the_users(frames)
    }
    for stand in case.evidence.stands:
        if stand.rank is not None and (_the_users(stand.frames) or stand.state in "Tt"):
            found.setdefault(stand.rank, stacks.place_of(stand))
    return found


def _the_users(frames: Sequence[tuple[str, int, str]]) -> bool:
    """Is any of it the user's own code? torchrun's tracebacks about itself say nothing of where a rank stood."""
    return any(not stacks.LIBRARY.search(file) for file, _, _ in frames)


def _odd(where: dict[int, Place]) -> list[int]:
    """Those that do not wait while the others do; else the one that waits elsewhere than all others."""
    elsewhere = [rank for rank, place in where.items() if not place.waits]
    if elsewhere:
        same = {where[rank] for rank in elsewhere}
        return sorted(elsewhere) if len(same) == 1 and len(elsewhere) < len(where) else []
    groups: dict[Place, list[int]] = {}
    for rank, place in where.items():
        groups.setdefault(place, []).append(rank)
    if len(groups) != 2:
        return []
    few, many = sorted(groups.values(), key=len)
    return few if len(few) == 1 and len(many) > 1 else []


def _others(where: dict[int, Place], odd: list[int]) -> list[Place]:
    return [place for rank, place in where.items() if rank not in odd]


def _plural(place: Place) -> str:
    return f"wait in {place.what} ({place.where})"


def _host(case: Case, rank: int) -> str:
    told = next((stand.host for stand in case.evidence.stands if stand.rank == rank), None)
    return case.world.host_of(rank) or told or ""


def _pid(case: Case, odd: list[int]) -> int | None:
    return next((stand.pid for stand in case.evidence.stands if len(odd) == 1 and stand.rank == odd[0]), None)


def _sure(case: Case, where: dict[int, Place], odd: list[int]) -> Confidence:
    """A whole look at a run in which nothing moved is as sure as it gets."""
    still = all(stand.moved is False for stand in case.evidence.stands) and bool(case.evidence.stands)
    whole = len(where) == len(case.world.all()) and len(where) > 2
    return "high" if still and whole and not where[odd[0]].waits else "medium"
