"""Input and output of the diagnosis rules."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from fanout.diagnose.candidates import Candidate
from fanout.diagnose.evidence import Evidence, LogMatch
from fanout.diagnose.evidence_order import Doubt
from fanout.diagnose.process_evidence import Process
from fanout.diagnose.verdict import Cause
from fanout.diagnose.world import World
from fanout.model.frozen import frozen


@frozen
class RuleResult:
    """Result of a rule. ``also`` holds candidates that the evidence cannot separate from the cause.

    The level of the rule and the doubts give the confidence.
    """

    cause: Cause
    evidence: tuple[str, ...]
    doubts: tuple[Doubt, ...] = ()
    suspect: Candidate | None = None
    also: tuple[Cause, ...] = ()
    refutes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


@dataclass(frozen=True)
class RuleContext:
    """Input of the rules: the evidence, its processes and its candidates."""

    evidence: Evidence
    world: World
    processes: tuple[Process, ...]
    suspects: tuple[Candidate, ...]

    @cached_property
    def own_failures(self) -> tuple[Candidate, ...]:
        """Return the candidates with proof, or with an error or exit of their own."""
        return tuple(each for each in self.suspects if each.is_strong)

    @cached_property
    def victim_matches(self) -> tuple[LogMatch, ...]:
        """Return the first match of each victim, one per process."""
        return tuple(each.sightings[0] for each in self.processes if each.part == "victim" and each.sightings)

    def compute_margin(self, one: Candidate, other: Candidate) -> float:
        """Return the error in seconds between the times of two candidates."""
        if one.host == other.host:  # one clock, but streams are read one after the other
            return self.evidence.error / 2
        gaps = self.evidence.gaps
        return self.evidence.error + gaps.get(one.host, 0.0) + gaps.get(other.host, 0.0)
