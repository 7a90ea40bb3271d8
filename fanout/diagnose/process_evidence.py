"""Evidence by process: assign log lines and exits to processes, and classify each process.

In torchrun's merged stream only the prefix ``[rank5]:`` names the rank. A line without it is assigned to a process
only if no other process can have logged it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

from fanout.diagnose.evidence import Evidence, LogMatch, ProcessExit
from fanout.diagnose.exit_codes import split_exit_code
from fanout.diagnose.signatures import STALLS
from fanout.diagnose.world import World
from fanout.model.frozen import frozen

Part = Literal["root", "either", "victim", "quiet", "collateral"]
NEAR_SECONDS = 5.0
_VICTIM_CODES = (1, -6, 134)  # an exception, or the abort by a watchdog
STALL_SECONDS = 3600.0  # between a fault of a host and the timeouts of its collectives
LAST_SECONDS = 120.0  # between the last error of a process and its end: teardown may wait for others


@frozen
class Process:
    """One process (``rank`` None: some process of the host). ``sightings`` are its own, in time order.

    ``early`` are errors so long before its end that the process must have continued after them.
    """

    host: str
    rank: int | None
    part: Part
    sightings: tuple[LogMatch, ...] = ()
    death: ProcessExit | None = None
    early: tuple[LogMatch, ...] = ()

    @property
    def deciding_match(self) -> LogMatch | None:
        """Return the match that decided its part; None if there is none.

        Of errors that may be consequences, one that ended the process counts before warnings.
        """
        found = [each for each in self.sightings if _classify_match(each) == self.part]
        ended = [each for each in found if each.traceback or each.kind == "end"] if self.part == "either" else []
        return next(iter((*ended, *found)), None)

    @property
    def local_rank(self) -> int | None:
        return self.death.local_rank if self.death else None

    @property
    def pid(self) -> int | None:
        return self.death.pid if self.death else None


def build_processes(evidence: Evidence, world: World) -> tuple[Process, ...]:
    """Return all processes with any evidence."""
    out: list[Process] = []
    for host in evidence.hosts:
        here = [each for each in evidence.sightings if each.host == host and each.kind != "kernel"]
        mine = [each for each in here if each.kind != "stated" and not _names_itself(each)]
        deaths = [_add_rank(death, world) for death in evidence.deaths if death.host == host]
        ended = _find_end_time(evidence, host)
        found = [_split_early(each, ended) for each in _build_host_processes(host, mine, deaths, world)]
        out += add_stated_errors(found, [each for each in here if each.kind == "stated"], evidence, host)
    return tuple(out)


def _names_itself(sighting: LogMatch) -> bool:
    """Return whether a rank only repeats that others wait for it, or that it failed."""
    named = sighting.fields.get("ranks") or sighting.fields.get("rank") or ""
    return sighting.kind == "names" and str(sighting.rank) in named.replace(",", " ").split()


def _add_rank(death: ProcessExit, world: World) -> ProcessExit:
    """Return the exit with its rank, which follows from its local rank and the ranks of its host."""
    ranks = world.ranks.get(death.host, range(0))
    if death.rank is None and death.local_rank is not None and death.local_rank < len(ranks):
        return replace(death, rank=ranks[death.local_rank])
    return death


def _find_end_time(evidence: Evidence, host: str) -> float:
    """Return when the host's script ended, or the time of the last contact."""
    end = evidence.ends.get(host)
    if end is not None:
        return end.since if end.kind == "lost" else end.at
    said = [each.at for each in evidence.sightings if each.host == host]
    died = [each.at for each in evidence.deaths if each.host == host]
    return max((*said, *died), default=0.0)


def _split_early(process: Process, ended: float) -> Process:
    """Split off errors long before the end of the process. The later errors decide its part."""
    if process.death is not None and not process.death.was_stopped:
        ended = process.death.at
    late = tuple(
        each for each in process.sightings if not each.at or ended - each.at <= _get_reach(each)
    )  # 0.0: no time
    if len(late) == len(process.sightings):
        return process
    early = tuple(each for each in process.sightings if each not in late)
    part = _classify_process(late, process.death, False)
    return Process(host=process.host, rank=process.rank, part=part, sightings=late, death=process.death, early=early)


def _get_reach(sighting: LogMatch) -> float:
    """Return for how many seconds before the end of a process a match may be its cause."""
    return STALL_SECONDS if sighting.signature in STALLS else LAST_SECONDS


def _build_host_processes(
    host: str, sightings: list[LogMatch], deaths: list[ProcessExit], world: World
) -> list[Process]:
    ranks = world.ranks.get(host)
    only = ranks[0] if ranks is not None and len(ranks) == 1 else None
    by_rank: dict[int | None, list[LogMatch]] = {}
    for each in sightings:
        rank = only if each.rank is None and each.kind != "end" else each.rank  # the end may be that of another process
        by_rank.setdefault(rank, []).append(each)
    loose = _assign_by_pid(by_rank.pop(None, []), deaths, by_rank)
    deaths = [_identify_crash(death, deaths, by_rank) for death in deaths]
    silent = [death for death in deaths if not death.was_stopped and (death.rank is None or death.rank not in by_rank)]
    given, loose = _assign_lines(loose, silent)
    out: list[Process] = []
    for rank in sorted(by_rank, key=lambda rank: -1 if rank is None else rank):
        death = next((death for death in deaths if death.rank == rank), None)
        out.append(_build_process(host, rank, by_rank[rank], death))
    unclear = any(_classify_match(each) in ("victim", "root") for each in loose)
    waited = any(each.death is None and each.part == "victim" for each in out)
    for death in deaths:
        if death.rank is None or death.rank not in by_rank:
            doubtful = unclear or (waited and death.rank is None)  # perhaps the end of one of those victims
            out.append(_build_process(host, death.rank, given.get(death.pid, []), death, unclear=doubtful))
    if loose:
        out.append(_build_process(host, None, loose, None))
    return out


def _assign_by_pid(
    loose: list[LogMatch], deaths: list[ProcessExit], by_rank: dict[int | None, list[LogMatch]]
) -> list[LogMatch]:
    """Add the lines that name the pid of a rank to that rank; return the other lines."""
    rank_of = {str(death.pid): death.rank for death in deaths if death.rank is not None}
    for each in loose:
        if each.fields.get("pid") in rank_of:
            by_rank.setdefault(rank_of[each.fields["pid"]], []).append(each)
    return [each for each in loose if each.fields.get("pid") not in rank_of]


def _identify_crash(
    death: ProcessExit, deaths: list[ProcessExit], by_rank: Mapping[int | None, list[LogMatch]]
) -> ProcessExit:
    """Return the exit with its rank, if it is the only one by a signal and one rank logged how it crashed."""
    by_signal = [each for each in deaths if each.code < 0 and not each.was_stopped]
    known = {each.rank for each in deaths}
    crashed = [rank for rank, seen in by_rank.items() if rank not in known and any(each.kind == "end" for each in seen)]
    if by_signal != [death] or death.rank is not None or len(crashed) != 1:
        return death
    return replace(death, rank=crashed[0])


def _assign_lines(loose: list[LogMatch], deaths: list[ProcessExit]) -> tuple[dict[int, list[LogMatch]], list[LogMatch]]:
    """Assign lines without a rank to the deaths that they explain (pid -> lines); also return the other lines."""
    raised = [each for each in loose if each.traceback]
    exits = [death for death in deaths if death.code == 1] or (deaths if len(deaths) == 1 else [])
    given: dict[int, list[LogMatch]] = {}
    if raised and exits and (len(exits) == 1 or len({each.same_as for each in raised}) == 1):
        for number, each in enumerate(raised):
            given.setdefault(exits[min(number, len(exits) - 1)].pid, []).append(each)
        loose = [each for each in loose if not each.traceback]
    others = [death for death in deaths if death.pid not in given and not (raised and death.code == 1)]
    if len(others) == 1 and loose and not any(each.traceback for each in loose):
        given[others[0].pid] = loose
        loose = []
    elif len(deaths) == 1 and deaths[0].pid in given:
        given[deaths[0].pid] = sorted([*given[deaths[0].pid], *loose], key=lambda each: (each.at, each.line))
        loose = []
    return given, loose


def add_stated_errors(found: list[Process], stated: list[LogMatch], evidence: Evidence, host: str) -> list[Process]:
    """Return the processes of a host with the one-line errors (``prog: error: …``) that explain their ends.

    Such a line counts only if its process has no other error and exited with its own status, or torchrun stopped it
    meanwhile. Other programs in train.sh print such lines, too.
    """
    if not stated:
        return found
    unmarked = [each for each in stated if each.rank is None]
    shared = unmarked if len({each.same_as for each in unmarked}) == 1 else []
    out = []
    for each in found:
        own = [seen for seen in stated if seen.rank is not None and seen.rank == each.rank]
        if not own and each.death is not None and not each.death.was_stopped:
            own = shared
        if own and not each.sightings and each.death is not None and _has_own_status(each.death):
            each = replace(each, part="root", sightings=tuple(own))
        out.append(each)
    end = evidence.ends.get(host)
    failed = end is not None and end.kind == "ended" and end.code not in (None, 0) and end.code < 128
    if not found and (failed or (end is None and not evidence.live)):
        ranks = dict.fromkeys(seen.rank for seen in stated)
        out += [_build_process(host, rank, [seen for seen in stated if seen.rank == rank], None) for rank in ranks]
    return out


def _has_own_status(death: ProcessExit) -> bool:
    """Return whether it exited with its own status, or torchrun stopped it."""
    plain, _ = split_exit_code(death.code)
    return death.was_stopped or bool(plain)


def _build_process(
    host: str, rank: int | None, sightings: Iterable[LogMatch], death: ProcessExit | None, *, unclear: bool = False
) -> Process:
    mine = tuple(sorted(sightings, key=lambda each: (each.at, each.line)))
    return Process(host=host, rank=rank, part=_classify_process(mine, death, unclear), sightings=mine, death=death)


def _classify_process(sightings: tuple[LogMatch, ...], death: ProcessExit | None, unclear: bool) -> Part:
    """Return the part of a process. The first match decides; a weak one yields to a better one nearby."""
    for each in sightings:
        part = _classify_match(each)
        if part != "either":
            return part
        near = {_classify_match(other) for other in sightings if abs(other.at - each.at) <= NEAR_SECONDS}
        if "root" not in near and "victim" in near and each.signature not in STALLS:
            return "victim"
        return "root" if "root" in near else "either"
    if death is None or death.was_stopped:
        return "collateral"
    return "victim" if death.code in _VICTIM_CODES and unclear else "quiet"


def _classify_match(sighting: LogMatch) -> Part:
    return "victim" if sighting.role == "noise" else sighting.role
