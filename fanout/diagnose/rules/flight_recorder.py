"""Flight recorder rule: compare the dumps of all ranks; find the rank that is behind or in another collective.

A rank numbers the collectives of a group in the order in which it starts them. So the same number must be the same
collective in all ranks. Only two ranks record a send or receive, so the rule ignores them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod

from fanout.diagnose import stack_groups
from fanout.diagnose.evidence_order import NO_DUMP, UNEQUAL, Doubt
from fanout.diagnose.flight_dumps import Collective, FlightDump, GroupProgress
from fanout.diagnose.rule_context import RuleContext
from fanout.diagnose.verdict import Cause
from fanout.model.frozen import frozen
from fanout.model.hosts import fold_numbers

#: In these collectives all ranks pass equal sizes; in the others sizes may differ.
_ALIKE = frozenset({"all_reduce", "allreduce_coalesced", "broadcast", "reduce", "all_gather", "_all_gather_base",
                    "reduce_scatter", "_reduce_scatter_base", "all_gather_into_tensor_coalesced",
                    "reduce_scatter_tensor_coalesced"})  # fmt: skip
#: In these collectives a rank may finish before another one starts.
_ONE_SIDED = frozenset({"broadcast", "_broadcast_oop", "reduce", "_reduce_oop", "gather", "scatter"})
_MOST = 4


@frozen
class DumpFinding:
    """Cause that the dumps show. ``also`` holds candidates that the dumps cannot separate from it."""

    cause: Cause
    evidence: tuple[str, ...]
    doubts: tuple[Doubt, ...] = ()
    also: tuple[Cause, ...] = ()


@frozen
class _Group:
    """One process group over all ranks. ``number`` is the smallest collective in which a rank waits."""

    title: str
    courses: Mapping[int, GroupProgress]
    absent: tuple[int, ...]  # members without a dump
    number: int
    there: Mapping[int, Collective]  # ranks that wait in that collective
    behind: tuple[int, ...]  # ranks that have not started it


def find_cause(case: RuleContext) -> DumpFinding | None:
    """Return the rank, or the one host, that the dumps of this run show as the cause."""
    flights = select_dumps(case)
    groups = [group for each in _collect_groups(case, flights) if (group := _build_group(*each)) is not None]
    where = _RankHosts(case, {flight.rank: flight for flight in flights})
    return _find_mismatch(groups, where) or _find_missing(groups, where)


def select_dumps(case: RuleContext) -> tuple[FlightDump, ...]:
    """Return the dumps that belong to this run: the host has this rank, and the number of ranks agrees."""
    everyone = case.world.all_ranks()
    known = bool(everyone) and case.world.has_all(case.evidence.hosts)
    mine: dict[int, FlightDump] = {}
    for flight in case.evidence.flights:
        owner = everyone.get(flight.rank)
        strange = known and (owner is None or (flight.world and flight.world != len(everyone)))
        if not strange and (owner in (None, flight.host) or not case.evidence.live):
            mine.setdefault(flight.rank, flight)
    return tuple(mine.values())


def describe_foreign_dumps(case: RuleContext) -> tuple[str, ...]:
    """Return a sentence for each dump of another run."""
    many, mine = len(case.world.all_ranks()), select_dumps(case)
    evidence = [
        f"{flight.path} belongs to another run: that run had {flight.world} ranks, this one has {many}"
        for flight in case.evidence.flights
        if flight not in mine and flight.world and many and flight.world != many
    ]
    return tuple(evidence[:_MOST])


class _RankHosts:
    """Hosts of the ranks, and causes built from them."""

    def __init__(self, case: RuleContext, flights: Mapping[int, FlightDump]) -> None:
        self._case, self._flights = case, flights

    def find_host(self, rank: int) -> str | None:
        known = self._case.world.find_host(rank)
        return known or (self._flights[rank].host or None if rank in self._flights else None)

    def is_searched(self, rank: int) -> bool:
        """Return whether a dump of the rank would have been found.

        Its host was searched, and another rank there has a dump or it has no other rank.
        """
        host = self.find_host(rank)
        others = self._case.world.ranks.get(host or "", range(0))
        return host in self._case.evidence.looked and (
            len(others) == 1 or any(each in self._flights for each in others)
        )

    def build_cause(self, ranks: Sequence[int], says: str, signature: str) -> Cause:
        """Build the cause for ranks of one host."""
        host = self.find_host(ranks[0])
        file = self._flights[ranks[0]].path if ranks[0] in self._flights else ""
        return Cause(
            signature=signature,
            says=says,
            host=host,
            rank=ranks[0] if len(ranks) == 1 else None,
            ranks=tuple(ranks),
            hosts=(host,) if host else (),
            file=file,
        )

    def is_single_host(self, ranks: Iterable[int]) -> bool:
        """Return whether it is one rank, or ranks of one known host."""
        listed = list(ranks)
        hosts = {self.find_host(rank) for rank in listed}
        return len(listed) == 1 or (len(hosts) == 1 and None not in hosts)


def _collect_groups(
    case: RuleContext, flights: Sequence[FlightDump]
) -> list[tuple[str, dict[int, GroupProgress], tuple[int, ...]]]:
    """Return (title, rank -> course, members without a dump) of each group with at least two ranks."""
    everyone = tuple(case.world.all_ranks()) if case.world.has_all(case.evidence.hosts) else ()
    found: dict[tuple[str, tuple[int, ...]], dict[int, GroupProgress]] = {}
    for flight in flights:
        for course in flight.courses:
            found.setdefault((course.group, course.members), {})[flight.rank] = course
    out = []
    for (name, recorded), courses in found.items():
        title = next(iter(courses.values())).title
        members = recorded or (everyone if title == "the default group" else ())
        for flight in flights:
            if flight.rank in members and flight.rank not in courses and flight.whole:
                courses[flight.rank] = GroupProgress(group=name, title=title)  # it never started a collective there
        flown = {flight.rank for flight in flights}
        if len(courses) > 1 or len(members) > 1:
            out.append((title, courses, tuple(rank for rank in members if rank not in flown)))
    return out


def _build_group(title: str, courses: Mapping[int, GroupProgress], absent: tuple[int, ...]) -> _Group | None:
    """Build the group; None if no rank waits, or if the dumps cannot be of the same moment."""
    standing = _find_waiting(courses)
    if not standing:
        return None
    number = min(call.number for call in standing.values())
    there = {rank: call for rank, call in standing.items() if call.number == number}
    behind = tuple(rank for rank, course in courses.items() if course.enqueued < number)
    beyond = [rank for rank, course in courses.items() if course.completed >= number]
    if beyond and not all(call.op in _ONE_SIDED for call in there.values()):
        return None
    return _Group(title=title, courses=courses, absent=absent, number=number, there=there, behind=behind)


def _find_waiting(courses: Mapping[int, GroupProgress]) -> dict[int, Collective]:
    """Return rank -> the collective in which it waits. If no state is recorded, this is the newest collective."""
    newest = max(course.enqueued for course in courses.values())
    out = {rank: course.waits for rank, course in courses.items() if course.waits is not None}
    for rank, course in courses.items():
        last = course.last
        if rank not in out and last is not None and last.number == newest and last.state != "completed":
            out[rank] = last
    return out


# --------------------------------------------------------------------------------------- ranks in another collective


def _find_mismatch(groups: Sequence[_Group], where: _RankHosts) -> DumpFinding | None:
    """Return the rank that at the same number is in another collective, or has another size or type."""
    named = [pointer for group in groups if (pointer := _find_group_mismatch(group, where)) is not None]
    if not named or any(each.cause.ranks != named[0].cause.ranks for each in named):
        return None
    return named[0]


def _find_group_mismatch(group: _Group, where: _RankHosts) -> DumpFinding | None:
    kinds: dict[tuple[object, ...], list[int]] = {}
    for rank, call in group.there.items():
        kinds.setdefault(_to_key(call), []).append(rank)
    if len(kinds) != 2:
        return None
    few, many = sorted((sorted(ranks) for ranks in kinds.values()), key=len)
    one, other = group.there[few[0]], group.there[many[0]]
    text = (
        f"flight recorder: in #{group.number} of {group.title} {_format_ranks(few)} {_conjugate(few)} in {_format_collective(one, other)}, "
        f"{_format_ranks(many)} {_conjugate(many)} in {_format_collective(other, one)}"
    )
    says = f"is in {_format_collective(one, other)} as #{group.number} of {group.title}, where the others are in {_format_collective(other, one)}"
    cause = where.build_cause(few, says, "mismatch")
    if len(few) < len(many) and where.is_single_host(few):
        return DumpFinding(cause=cause, evidence=(text,))
    if len(few) == len(many) == 1:
        says = f"is in {_format_collective(other, one)} as #{group.number} of {group.title}"
        other_cause = where.build_cause(many, says, "mismatch")
        return DumpFinding(cause=cause, evidence=(text,), doubts=(UNEQUAL,), also=(other_cause,))
    return None


def _to_key(call: Collective) -> tuple[object, ...]:
    """Return the key that must be equal in all ranks. A different shape with as many elements is no fault."""
    if call.op not in _ALIKE:
        return (call.op,)
    return call.op, _count_elements(call.inputs), _count_elements(call.outputs), call.dtypes


def _count_elements(sizes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    return tuple(prod(each) for each in sizes)


def _format_collective(call: Collective, other: Collective) -> str:
    """Return ``all_reduce of 4x4 Float (model.py:88)``; sizes only if they differ."""
    text = call.op
    if call.op == other.op:
        shown = call.outputs if call.inputs == other.inputs and call.outputs != other.outputs else call.inputs
        sizes = [" x ".join(map(str, each)) or "one number" for each in shown[:3]]
        text += f" of {', '.join(sizes)} {'/'.join(dict.fromkeys(call.dtypes))}".rstrip()
    return f"{text}{_format_location(call)}"


# ------------------------------------------------------------------------------------------------------ missing ranks


def _find_missing(groups: Sequence[_Group], where: _RankHosts) -> DumpFinding | None:
    """Return the ranks that others wait for and that do not wait themselves."""
    waited = {rank for group in groups for rank in (*group.behind, *group.absent)}
    waiting = {rank for group in groups if group.behind or group.absent for rank in group.there}
    ranks = sorted(waited - waiting)
    if not ranks or len(ranks) > len(waiting):
        return None
    if where.is_single_host(ranks):
        return _build_finding(ranks, groups, where)
    if len(ranks) > 2:
        return None
    first, second = (_build_finding([rank], groups, where) for rank in ranks)
    evidence = first.evidence + second.evidence
    return DumpFinding(cause=first.cause, evidence=evidence, doubts=(UNEQUAL,), also=(second.cause,))


def _build_finding(ranks: list[int], groups: Sequence[_Group], where: _RankHosts) -> DumpFinding:
    group = next(each for each in groups if set(ranks) & {*each.behind, *each.absent})
    call = next(iter(group.there.values()))
    what = f"{call.op} #{group.number} of {group.title}"
    there = f"flight recorder: {_format_ranks(group.there)} {'waits' if len(group.there) == 1 else 'wait'} in {what}{_format_location(call)}"
    gone = [rank for rank in ranks if rank in group.absent]
    if gone:
        says = f"left no flight recorder dump, and did not reach {what}, where the others wait"
        text = f"{there}; there is no dump of {_format_ranks(gone)}"
    else:
        says = f"did not reach {what}, where the others wait"
        text = f"{there}; {_format_ranks(ranks)} {_describe_progress(group.courses[ranks[0]])}"
    sure = not gone or all(where.is_searched(rank) for rank in gone)
    cause = where.build_cause(ranks, says, "missing")
    return DumpFinding(cause=cause, evidence=(text,), doubts=() if sure else (NO_DUMP,))


def _describe_progress(course: GroupProgress) -> str:
    if course.last is None:
        return "never started any of it"
    return f"did not go beyond #{course.enqueued} ({course.last.op}{_format_location(course.last, inside=True)})"


def _format_location(call: Collective, *, inside: bool = False) -> str:
    where = stack_groups.locate_frames(call.frames).where if call.frames else ""
    return "" if not where else f", {where}" if inside else f" ({where})"


def _format_ranks(ranks: Iterable[int]) -> str:
    listed = sorted(ranks)
    return f"rank{'s' if len(listed) > 1 else ''} {fold_numbers(listed)}"


def _conjugate(ranks: Sequence[int]) -> str:
    return "are" if len(ranks) > 1 else "is"
