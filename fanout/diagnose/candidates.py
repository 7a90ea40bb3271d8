"""Candidates: each process or host whose failure no other one explains, with the time interval of the failure.

The time of a line is its arrival. A process exits before torchrun's report about it. A lost host failed between its
last output and the moment when the launcher gave up.
"""

from __future__ import annotations

from collections.abc import Sequence

from fanout.diagnose.evidence import Evidence, HostEnd, LogMatch, ProcessExit
from fanout.diagnose.evidence_order import LevelName, is_strong
from fanout.diagnose.exit_codes import explain_exit_code, format_exit_code, split_exit_code
from fanout.diagnose.process_evidence import Process
from fanout.diagnose.signatures import ABORTS, GENERIC, LAST_RESORTS, STALLS, STOPS
from fanout.diagnose.verdict import Cause
from fanout.model.frozen import frozen

NOTICE_SECONDS = 3.0  # between the exit of a process and the report of torchrun or the agent, on a loaded host


@frozen
class Candidate:
    """One candidate with its level of evidence. It failed between ``begin`` and ``end``.

    Its sentence is printed after "rank 3 on gpu02".
    """

    host: str
    rank: int | None
    level: LevelName
    begin: float
    end: float
    signature: str
    says: str
    same_as: tuple[str, str]
    sighting: LogMatch | None = None
    death: ProcessExit | None = None
    over: HostEnd | None = None

    @property
    def is_strong(self) -> bool:
        """Return whether its evidence is proof, or an error or exit of its own."""
        return is_strong(self.level)

    @property
    def has_ended(self) -> bool:
        """Return whether it is known to have ended by itself."""
        return (self.death is not None and not self.death.was_stopped) or (
            self.over is not None and self.over.has_failed
        )

    def build_cause(self, same: Sequence[Candidate] = ()) -> Cause:
        """Build the cause for the verdict; ``same`` are candidates with the same error."""
        seen, death = self.sighting, self.death
        group = (self, *same)
        return Cause(
            signature=self.signature,
            says=self.says,
            host=self.host,
            rank=self.rank,
            local_rank=death.local_rank if death else None,
            pid=death.pid if death else None,
            code=death.code if death and not death.was_stopped else _to_exit_code(self.over) if death is None else None,
            host_code=self.over.code if self.over else None,
            at=self.end,
            text=seen.text if seen else "",
            file=seen.file if seen else death.file if death else "",
            line=seen.line if seen else death.line if death else 0,
            traceback=seen.traceback if seen else (),
            ranks=tuple(sorted({each.rank for each in group if each.rank is not None})),
            hosts=tuple(dict.fromkeys(each.host for each in group)),
        )


def build_match_cause(seen: LogMatch, *, signature: str, says: str, hosts: tuple[str, ...]) -> Cause:
    """Build a cause on the host of one log line, which is its evidence; ``hosts`` are all hosts that it concerns."""
    return Cause(
        signature=signature,
        says=says,
        host=seen.host,
        hosts=hosts,
        at=seen.at,
        text=seen.text,
        file=seen.file,
        line=seen.line,
    )


def find_candidates(evidence: Evidence, processes: Sequence[Process]) -> tuple[Candidate, ...]:
    """Return all candidates, unordered."""
    out = [
        _build_process_candidate(each, evidence)
        for each in processes
        if each.part in ("root", "either", "quiet")
        and not _is_stopped_torchrun(each, evidence)
        and not _is_abort_of_victim(each, processes)
    ]
    out += [_build_early_candidate(each) for each in processes if any(seen.role == "root" for seen in each.early)]
    explained = {each.host for each in processes if each.part != "collateral"}
    for host, end in evidence.ends.items():
        if end.kind == "lost":
            out.append(_build_lost_candidate(host, end, rebooted=evidence.rebooted.get(host, "")))
        elif end.has_failed and host not in explained and not end.lease_seconds:
            out.append(_build_script_candidate(host, end, evidence))
    return tuple(out)


def _is_stopped_torchrun(process: Process, evidence: Evidence) -> bool:
    """Return whether the only evidence is a stop of its torchrun or its script after another failure.

    The launcher stops all hosts after a failure. Only a stop before any other error can be the cause.
    """
    first = process.deciding_match
    if first is None or first.signature not in STOPS:
        return False
    end = evidence.ends.get(process.host)
    others = [(seen.host, seen.at) for seen in evidence.sightings] + [(each.host, each.at) for each in evidence.deaths]
    before = any(host != process.host and at < first.at for host, at in others)
    return before or (end is not None and end.kind == "stopped")


def _is_abort_of_victim(process: Process, processes: Sequence[Process]) -> bool:
    """Return whether its only evidence is an abort that a script reports, and a rank of this host is a victim."""
    first = process.deciding_match
    if first is None or first.signature not in ABORTS or process.rank is not None:
        return False
    return any(each.host == process.host and each.part == "victim" for each in processes)


def _build_process_candidate(process: Process, evidence: Evidence) -> Candidate:
    death, end = process.death, evidence.ends.get(process.host)
    first = process.deciding_match
    if first is not None:
        return Candidate(
            host=process.host,
            rank=process.rank,
            level=_choose_level(process, first, evidence),
            begin=first.at - (NOTICE_SECONDS if first.reported else 0.0),
            end=first.at,
            signature=first.signature,
            says=_describe_match(first),
            same_as=first.same_as,
            sighting=first,
            death=death,
            over=end,
        )
    assert death is not None
    _, signal = split_exit_code(death.code)
    abort_or_one = death.code in (1, -6, 134)  # a victim exits with these, too
    return Candidate(
        host=process.host,
        rank=process.rank,
        level="bare" if death.code == 1 else "absence" if abort_or_one else "own",
        begin=death.at - NOTICE_SECONDS,
        end=death.at,
        signature="exit" if signal is None else "signal",
        says=_describe_end(death.code),
        same_as=("ended", format_exit_code(death.code)),
        death=death,
        over=end,
    )


def _choose_level(process: Process, first: LogMatch, evidence: Evidence) -> LevelName:
    """Return the level of a process with an error. Without a known end, the process may have continued after it."""
    if first.signature in LAST_RESORTS:
        return "bare"
    end = evidence.ends.get(process.host)
    ended = bool(first.traceback) or process.death is not None or (end is not None and end.has_failed)
    if process.part == "either" and (first.kind == "end" or _has_waiters(first, evidence)):
        return "absence"
    if process.part != "root" or not (ended or not evidence.live):
        return "either"
    return "proof" if first.kind == "end" else "own"


def _has_waiters(first: LogMatch, evidence: Evidence) -> bool:
    """Return whether a fault of the host explains why ranks of other hosts timed out or lost a peer."""
    if first.signature not in STALLS:
        return False
    return any(seen.role == "victim" and seen.host != first.host for seen in evidence.sightings)


def _build_early_candidate(process: Process) -> Candidate:
    """Build a weak candidate from an error after which the process continued."""
    first = next(each for each in process.early if each.role == "root")
    return Candidate(
        host=process.host,
        rank=process.rank,
        level="bare",
        begin=first.at,
        end=first.at,
        signature=first.signature,
        says=f"{_describe_match(first)}, long before its end",
        same_as=first.same_as,
        sighting=first,
    )


def _describe_match(sighting: LogMatch) -> str:
    if sighting.traceback and sighting.signature in (GENERIC, "peer-trouble"):
        return f"ended with {sighting.text}"
    return sighting.says


def _describe_end(code: int) -> str:
    why = explain_exit_code(code)
    plain, _ = split_exit_code(code)
    how = (
        f"ended by itself with {format_exit_code(code)}"
        if plain is not None
        else f"was killed by {format_exit_code(code)}"
    )
    return f"{how}, without a known error" + (f" ({why})" if why else "")


def _build_script_candidate(host: str, end: HostEnd, evidence: Evidence) -> Candidate:
    code, rebooted = _to_exit_code(end), evidence.rebooted.get(host, "")
    assert code is not None or end.kind == "ended"
    how = _describe_end(code) if code is not None else "ended in an unknown way"
    level: LevelName = "absence" if code is not None and code not in (1, -6) else "bare"
    if level == "absence" and _is_sole_failure(host, end, evidence):
        level = "own"
    if end.why:  # the host reports the reason
        how, level = f"ended: {end.why}", "own"
    if code is None and rebooted:
        how = f"{rebooted} ({end.why})" if end.why else rebooted
    happened = (
        end.since if code is None and end.since else end.at
    )  # nothing observed the end: use the start of the silence
    return Candidate(
        host=host,
        rank=None,
        level=level,
        begin=happened - NOTICE_SECONDS,
        end=happened,
        signature="exit" if end.signal is None else "signal",
        says=how,
        same_as=("ended", how),
        over=end,
    )


def _is_sole_failure(host: str, end: HostEnd, evidence: Evidence) -> bool:
    """Return whether the script failed with its own code while the scripts of all other hosts still ran."""
    others = [evidence.ends.get(other) for other in evidence.hosts if other != host]
    return end.kind == "ended" and bool(others) and all(each and each.kind == "stopped" for each in others)


def _build_lost_candidate(host: str, end: HostEnd, *, rebooted: str) -> Candidate:
    how = f"{rebooted}, and lost" if rebooted else "was lost"
    if end.has_lost_container:
        how = "lost its container during the run"
    return Candidate(
        host=host,
        rank=None,
        level="absence",
        begin=min(end.since, end.at) - NOTICE_SECONDS,
        end=max(end.since, end.at - NOTICE_SECONDS),
        signature="container-ended" if end.has_lost_container else "lost",
        says=f"{how} ({end.why})" if end.why else how,
        same_as=("lost", host),
        over=end,
    )


def _to_exit_code(end: HostEnd | None) -> int | None:
    if end is None:
        return None
    return -end.signal if end.signal is not None else end.code
