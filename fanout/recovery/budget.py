"""Limits of restarts: the budget of --max-restarts, the limit of a failure class, the rate limit, and the wait.

A restart counts if no progress followed the one before. Progress (``progress.py``) resets the budget and the wait. The
rate limit counts every start, because a task that asks for its own restart can loop too.
"""

from __future__ import annotations

from collections.abc import Sequence

from fanout.model.frozen import frozen
from fanout.model.restart_rate import RestartRate
from fanout.recovery.attempt import AttemptEnd, RecoveryOptions
from fanout.recovery.classify import classify_failure
from fanout.recovery.failure_classes import REQUESTED_RESTART, FailureClass
from fanout.recovery.progress import rate_progress, select_since_progress

FREE_WEAK_RESTARTS = 2
TOTAL_FACTOR = 10
FIRST_WAIT_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 300.0


@frozen
class Budget:
    """Restarts since the last progress, with the one that would follow the last attempt."""

    used: int
    same_class: int  # restarts after the class of the last attempt
    waits: int  # restarts after a class with a wait, without the next one

    def compute_wait(self, failure: FailureClass) -> float:
        """Return the seconds to wait before a restart after ``failure``."""
        doublings = self.waits - (failure.wait == "repeated")
        if failure.wait == "none" or doublings < 0:
            return 0.0
        return min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(doublings, 10))


def count_restarts(options: RecoveryOptions, history: Sequence[AttemptEnd]) -> Budget:
    """Count the restarts since the last progress. ``history`` is not empty."""
    used = weak = waits = 0
    classes: list[str] = []
    for index in range(len(history) - len(select_since_progress(history)), len(history)):
        failure = classify_failure(options, history[index])
        classes.append(failure.name)
        waits += failure.wait != "none" and index < len(history) - 1
        if failure is REQUESTED_RESTART:
            continue
        if weak < FREE_WEAK_RESTARTS and rate_progress(history[: index + 1]) == "weak":
            weak += 1
            continue
        used += 1
    return Budget(used=used, same_class=classes.count(classes[-1]), waits=waits)


def count_recent_starts(rate: RestartRate, history: Sequence[AttemptEnd]) -> int:
    """Return how many attempts started within the time of --restart-rate."""
    return sum(history[-1].ended_at - each.started_at < rate.seconds for each in history)


def is_total_exceeded(options: RecoveryOptions, history: Sequence[AttemptEnd]) -> bool:
    """Return whether one more start would be more than TOTAL_FACTOR x N restarts in all."""
    return len(history) > TOTAL_FACTOR * options.max_restarts
