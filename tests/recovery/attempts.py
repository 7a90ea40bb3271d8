"""Attempts for tests of the restart decision, and what a decision is expected to be."""

from __future__ import annotations

from typing import Any

from fanout.recovery.attempt import AttemptEnd, Fleet, RecoveryOptions, StepRange
from fanout.recovery.decision import Decision, EndRun, Restart, decide_next

HOSTS: tuple[str, ...] = ("gpu01", "gpu02", "gpu03", "gpu04")
OPTIONS = RecoveryOptions(max_restarts=3)
SPARE = Fleet(spares=("gpu09",))
NO_SPARE = Fleet()


def build_attempt(number: int = 0, steps: tuple[int, int] | None = (1, 50), **more: Any) -> AttemptEnd:
    """Return a failed attempt of an hour, an hour after the one before."""
    given: dict[str, Any] = {
        "number": number,
        "hosts": HOSTS,
        "started_at": 7200.0 * number,
        "ended_at": 7200.0 * number + 3600.0,
        "signature": "python-exception",
        "confidence": "high",
        "code": 1,
        "steps": StepRange(first=steps[0], last=steps[1]) if steps else None,
    }
    return AttemptEnd(**{**given, **more})


def decide_for(*history: AttemptEnd, options: RecoveryOptions = OPTIONS, fleet: Fleet = SPARE) -> Decision:
    return decide_next(options, history, fleet)


def expect_restart(decision: Decision) -> Restart:
    assert isinstance(decision, Restart), decision
    return decision


def expect_end(decision: Decision, reason: str) -> EndRun:
    assert isinstance(decision, EndRun), decision
    assert decision.reason == reason
    return decision
