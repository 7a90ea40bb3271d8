"""Order of evidence: levels from proof to mere hints, and doubts that lower the confidence of a result. No I/O.

A rule belongs to one level, which sets its best confidence. Each doubt of its result sets a limit. ``make diagnosis``
writes these tables into docs/diagnosis.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from fanout.diagnose.verdict import Confidence
from fanout.model.frozen import frozen

LevelName = Literal["proof", "own", "named", "absence", "blame", "either", "bare"]
_SCALE: tuple[Confidence, ...] = ("undetermined", "low", "medium", "high")


@frozen
class Level:
    """One level of evidence. ``confidence`` is that of a result without doubts."""

    name: LevelName
    confidence: Confidence
    evidence: str


#: From the strongest to the weakest. A candidate of a later level counts only if no earlier level has a result.
LEVELS = (
    Level(
        name="proof",
        confidence="high",
        evidence="the kernel names the pid, or counted an OOM kill in the run's cgroup and the process ended with SIGKILL; "
        "a shell or a launcher reports that a process was killed or crashed",
    ),
    Level(
        name="own",
        confidence="high",
        evidence="an error of its own, or an exit that no other process causes; in a hang, the stacks of all ranks",
    ),
    Level(name="named", confidence="medium", evidence="other ranks name the rank or the node that they waited for"),
    Level(
        name="absence",
        confidence="medium",
        evidence="a host was lost or unreachable; a rank or host without an error, or at another place, while all others "
        "wait or lost a peer; an abort, or an exit that a launcher or train.sh reports, without an error",
    ),
    Level(name="blame", confidence="low", evidence="other hosts lost their connection to it, and it lost none"),
    Level(name="either", confidence="low", evidence="an error that may be the cause or the consequence of another"),
    Level(name="bare", confidence="low", evidence="exit 1 without an error, or an error long before the end"),
)
_ORDER = {level.name: number for number, level in enumerate(LEVELS)}


@frozen
class Doubt:
    """One reason against a result. The confidence is at most ``limit``."""

    name: str
    limit: Confidence
    reason: str


def _low(name: str, reason: str) -> Doubt:
    return Doubt(name=name, limit="low", reason=reason)


def _medium(name: str, reason: str) -> Doubt:
    return Doubt(name=name, limit="medium", reason=reason)


ORDER = _low("order", "several candidates cannot be put in order")
COMMON = _low("common", "most ranks, but not all, raised the same unknown error: a rank without it may be the cause")
ALIKE = _low("alike", "processes on several hosts ended alike, without an error")
PARTIAL = _low("partial", "only some of the other ranks or hosts reported anything")
TWO_HOSTS = _low("two-hosts", "the run has two hosts, and each side may have stopped first")
ONE_HOST = _low("one-host", "the run has one host, and nothing but its exit is known")
EITHER = _low("either", "another rank has an error that may be the cause")
NO_DUMP = _low("no-dump", "its host left no dump of the flight recorder")
UNEQUAL = _low("unequal", "two ranks or hosts differ or contradict each other, and either may be right")
SAME_HOST = _medium(
    "same-host", "several processes of one host ended alike: one may have caused the exits of the others"
)
ANONYMOUS = _medium("anonymous", "neither the rank nor the end of the process is known")
CONTINUED = _low("continued", "many lines follow it in its log, and no process is known to have ended")
UNNOTICED = _low("unnoticed", "only Ray reports it: no task or rank is known to have failed")
CHAIN = _medium("chain", "an error about a peer or the network follows in the same traceback")
NO_PID = _medium("no-pid", "the pid that the kernel names is not known to belong to the run")
MOVED = _medium("moved", "not all stacks are known, or something may have moved between two samples")
UNSEEN = _medium("unseen", "the launcher noticed no break of the connection")
COUNTED = _medium("counted", "the number of hosts may be wrong on other hosts too")
MISMATCH = _medium("mismatch", "two sides do not match, and the other side may be the wrong one")
NOTICED = _low("noticed", "the rank that notices a mismatch may not be the wrong one")
DOUBTS = (
    ORDER, COMMON, ALIKE, PARTIAL, TWO_HOSTS, ONE_HOST, EITHER, NO_DUMP, UNEQUAL, SAME_HOST, ANONYMOUS, CONTINUED, UNNOTICED, CHAIN, NO_PID, MOVED,
    UNSEEN, COUNTED, MISMATCH, NOTICED,
)  # fmt: skip


def is_strong(level: LevelName) -> bool:
    """Return whether the level is proof or an own failure. The order of time decides between candidates of these two."""
    return _ORDER[level] <= _ORDER["own"]


def compare_levels(level: LevelName, other: LevelName) -> int:
    """Return a negative number if ``level`` is stronger than ``other``, 0 if they are equal."""
    return _ORDER[level] - _ORDER[other]


def rate_confidence(level: LevelName, doubts: Iterable[Doubt]) -> Confidence:
    """Return the confidence of the level, lowered to the smallest limit of the doubts."""
    best = LEVELS[_ORDER[level]].confidence
    return min([best, *(doubt.limit for doubt in doubts)], key=_SCALE.index)
