"""Progress between attempts: it resets the budget of restarts, and shows whether the task resumes from a checkpoint.

Only the first step that an attempt reports proves that a checkpoint was written and read. A higher last step alone does
not: a task that fails before each checkpoint reaches a new last step again and again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fanout.recovery.attempt import AttemptEnd

Progress = Literal["first", "strong", "weak", "none", "unknown"]
FROM_SCRATCH_STEPS = 100  # steps that a task may lose by a start from the first step, because it had no checkpoint yet


def rate_progress(history: Sequence[AttemptEnd]) -> Progress:
    """Return the progress of the last attempt, compared with all attempts before.

    strong: it started at a later step than any attempt before. weak: it reached a later step, but did not start later.
    unknown: it, or every attempt before, reported no step.
    """
    if len(history) < 2:
        return "first"
    now, before = history[-1].steps, [each.steps for each in history[:-1] if each.steps is not None]
    if now is None or not before:
        return "unknown"
    if now.first > max(each.first for each in before):
        return "strong"
    return "weak" if now.last > max(each.last for each in before) else "none"


def select_since_progress(history: Sequence[AttemptEnd]) -> Sequence[AttemptEnd]:
    """Return the attempts since the last one with strong progress, with that one: none of the others made progress."""
    strong = (index for index in range(len(history), 0, -1) if rate_progress(history[:index]) == "strong")
    return history[next(strong, 1) - 1 :]


def count_lost_steps(history: Sequence[AttemptEnd]) -> int | None:
    """Return how many steps the last attempt repeated; None if unknown."""
    if len(history) < 2 or history[-1].steps is None:
        return None
    before = [each.steps.last for each in history[:-1] if each.steps is not None]
    return max(0, max(before) + 1 - history[-1].steps.first) if before else None


def starts_from_scratch(history: Sequence[AttemptEnd]) -> bool:
    """Return whether the task does not resume: it began again at the first step of the run after progress.

    One such start after few steps may only mean that no checkpoint existed yet. A second one in a row is counted.
    """
    scratch = [_begins_again(history[: index + 1]) for index in range(len(history))]
    if not scratch or not scratch[-1]:
        return False
    return has_lost_progress(history) or (len(scratch) > 1 and scratch[-2])


def has_lost_progress(history: Sequence[AttemptEnd]) -> bool:
    """Return whether the last attempt began at the first step again and lost more than FROM_SCRATCH_STEPS steps."""
    lost = count_lost_steps(history)
    return _begins_again(history) and lost is not None and lost > FROM_SCRATCH_STEPS


def _begins_again(history: Sequence[AttemptEnd]) -> bool:
    reported = [each.steps for each in history if each.steps is not None]
    if len(history) < 2 or history[-1].steps is None or len(reported) < 2:
        return False
    return reported[-1].first <= reported[0].first and max(each.last for each in reported[:-1]) > reported[0].first
