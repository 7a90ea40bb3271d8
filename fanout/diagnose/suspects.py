"""Candidates: each process or host whose failure no other one explains, with the time interval of the failure.

The time of a line is its arrival. A process exits before torchrun's report about it. A lost host failed between its
last output and the moment when the launcher gave up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fanout.diagnose.decode import meaning, short, split
from fanout.diagnose.evidence import Death, End, Evidence, Sighting
from fanout.diagnose.processes import Process
from fanout.diagnose.signatures import GENERIC
from fanout.diagnose.verdict import Cause

NOTICE_SECONDS = 3.0  # between the exit of a process and the report of torchrun or the agent, on a loaded host
STRONG, WEAK, FAINT = 3, 2, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """One candidate. It failed between ``begin`` and ``end``; ``says`` is printed after "rank 3 on gpu02"."""

    host: str
    rank: int | None
    strength: int
    begin: float
    end: float
    signature: str
    says: str
    same_as: tuple[str, str]
    sighting: Sighting | None = None
    death: Death | None = None
    over: End | None = None

    @property
    def dead(self) -> bool:
        """Return whether it is known to have ended by itself."""
        return (self.death is not None and not self.death.told) or (self.over is not None and self.over.failed)

    def cause(self, same: Sequence[Suspect] = ()) -> Cause:
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
            code=death.code if death and not death.told else _code(self.over) if death is None else None,
            host_code=self.over.code if self.over else None,
            at=self.end,
            text=seen.text if seen else "",
            file=seen.file if seen else death.file if death else "",
            line=seen.line if seen else death.line if death else 0,
            traceback=seen.traceback if seen else (),
            ranks=tuple(sorted({each.rank for each in group if each.rank is not None})),
            hosts=tuple(dict.fromkeys(each.host for each in group)),
        )


def suspects(evidence: Evidence, processes: Sequence[Process]) -> tuple[Suspect, ...]:
    """Return all candidates, unordered."""
    out = [
        _of_process(each, evidence)
        for each in processes
        if each.part in ("root", "maybe", "quiet") and not _told_to_stop(each, evidence)
    ]
    out += [_early(each) for each in processes if any(seen.role == "root" for seen in each.early)]
    explained = {each.host for each in processes if each.part != "collateral"}
    for host, end in evidence.ends.items():
        if end.kind == "lost":
            out.append(_lost(host, end, rebooted=host in evidence.rebooted))
        elif end.failed and host not in explained and not end.lease:
            out.append(_script(host, end, rebooted=host in evidence.rebooted))
    return tuple(out)


def _told_to_stop(process: Process, evidence: Evidence) -> bool:
    """Return whether the only evidence is a stop of its torchrun after another failure.

    The launcher stops all hosts after a failure. Only a stop before any other error can be the cause.
    """
    first = process.first
    if first is None or first.signature != "torchrun-death-signal":
        return False
    end = evidence.ends.get(process.host)
    others = [(seen.host, seen.at) for seen in evidence.sightings] + [(each.host, each.at) for each in evidence.deaths]
    before = any(host != process.host and at < first.at for host, at in others)
    return before or (end is not None and end.kind == "stopped")


def _of_process(process: Process, evidence: Evidence) -> Suspect:
    death, end = process.death, evidence.ends.get(process.host)
    first = process.first
    if first is not None:
        ended = bool(first.traceback) or death is not None or (end is not None and end.failed) or not evidence.live
        strength = STRONG if process.part == "root" and ended else WEAK
        return Suspect(
            host=process.host,
            rank=process.rank,
            strength=strength,
            begin=first.at - (NOTICE_SECONDS if first.reported else 0.0),
            end=first.at,
            signature=first.signature,
            says=_said(first),
            same_as=first.same_as,
            sighting=first,
            death=death,
            over=end,
        )
    assert death is not None
    _, signal = split(death.code)
    abort_or_one = death.code in (1, -6, 134)  # a victim exits with these, too
    return Suspect(
        host=process.host,
        rank=process.rank,
        strength=FAINT if death.code == 1 else WEAK if abort_or_one else STRONG,
        begin=death.at - NOTICE_SECONDS,
        end=death.at,
        signature="exit" if signal is None else "signal",
        says=_ended(death.code),
        same_as=("ended", short(death.code)),
        death=death,
        over=end,
    )


def _early(process: Process) -> Suspect:
    """Build a weak candidate from an error after which the process continued."""
    first = next(each for each in process.early if each.role == "root")
    return Suspect(
        host=process.host,
        rank=process.rank,
        strength=FAINT,
        begin=first.at,
        end=first.at,
        signature=first.signature,
        says=f"{_said(first)}, long before its end",
        same_as=first.same_as,
        sighting=first,
    )


def _said(sighting: Sighting) -> str:
    if sighting.traceback and sighting.signature in (GENERIC, "peer-trouble"):
        return f"ended with {sighting.text}"
    return sighting.says


def _ended(code: int) -> str:
    why = meaning(code)
    plain, _ = split(code)
    how = f"ended by itself with {short(code)}" if plain is not None else f"was killed by {short(code)}"
    return f"{how}, without a known error" + (f" ({why})" if why else "")


def _script(host: str, end: End, *, rebooted: bool) -> Suspect:
    code = _code(end)
    assert code is not None or end.kind == "ended"
    how = _ended(code) if code is not None else "ended in an unknown way"
    strength = WEAK if code is not None and code not in (1, -6) else FAINT
    if end.why:  # the host reports the reason
        how, strength = f"ended: {end.why}", STRONG
    if code is None and rebooted:
        how = f"was rebooted during the run ({end.why})" if end.why else "was rebooted during the run"
    happened = (
        end.since if code is None and end.since else end.at
    )  # nothing observed the end: use the start of the silence
    return Suspect(
        host=host,
        rank=None,
        strength=strength,
        begin=happened - NOTICE_SECONDS,
        end=happened,
        signature="exit" if end.signal is None else "signal",
        says=how,
        same_as=("ended", how),
        over=end,
    )


def _lost(host: str, end: End, *, rebooted: bool) -> Suspect:
    how = "was rebooted during the run, and lost" if rebooted else "was lost"
    return Suspect(
        host=host,
        rank=None,
        strength=WEAK,
        begin=min(end.since, end.at) - NOTICE_SECONDS,
        end=max(end.since, end.at - NOTICE_SECONDS),
        signature="lost",
        says=f"{how} ({end.why})" if end.why else how,
        same_as=("lost", host),
        over=end,
    )


def _code(end: End | None) -> int | None:
    if end is None:
        return None
    return -end.signal if end.signal is not None else end.code
