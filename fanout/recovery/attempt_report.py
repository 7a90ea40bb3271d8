"""Report about attempts: the message after each one, and the record of each one."""

from __future__ import annotations

from collections.abc import Sequence

from fanout.model.attempt_record import AttemptRecord, FirstCause, NextAction
from fanout.model.hosts import fold_names
from fanout.recovery.attempt import AttemptEnd, RecoveryOptions
from fanout.recovery.decision import ADVISED_RESTARTS, Decision, EndRun, Restart


def describe_failure(last: AttemptEnd) -> str:
    """Return how the attempt ended, for the message before a restart."""
    return f"attempt {last.number} failed: {last.sentence}"


def describe_restart(options: RecoveryOptions, restart: Restart) -> str:
    """Return what fanout does after a failure: ``restart 1 of 3: on the same hosts``."""
    number = f"restart {restart.used} of {options.max_restarts}" if restart.used else "restart (not counted)"
    return f"{number}: {describe_action(restart)}"


def build_restart_reason(last: AttemptEnd, failure_class: str) -> str:
    """Return FANOUT_RESTART_REASON: the class, and the unreadable checkpoint with the one before it, if they are known."""
    return " ".join(filter(None, (failure_class, last.checkpoint, last.predecessor)))


def describe_action(restart: Restart) -> str:
    """Return what changes with a restart: ``gpu05 replaces gpu02 as node rank 1``."""
    roster = restart.roster
    parts = [f"{new} replaces {old} as node rank {roster.hosts.index(new)}" for old, new in roster.replaced]
    if roster.dropped:
        parts.append(f"without {fold_names(roster.dropped)}, on {len(roster.hosts)} hosts")
    if roster.added:
        parts.append(f"with {fold_names(roster.added)} again")
    return "; ".join(parts) or ("on the same hosts" if len(roster.hosts) > 1 else "on the same host")


def describe_first_step(history: Sequence[AttemptEnd], number: int, step: int) -> str:
    """Return the message about the first step of attempt ``number``; "" for the first attempt.

    ``history`` has the attempts before it that started: a check may have refused others.
    """
    before = [each.steps for each in history if each.steps is not None]
    if not history:
        return ""
    if not before:
        return f"attempt {number} begins at step {step}"
    best = max(each.last for each in before)
    if step <= before[0].first and best > before[0].first:
        return f"attempt {number} begins at step {step} again, after step {best}: the task does not resume"
    repeated = max(0, best + 1 - step)
    return f"attempt {number} continues at step {step} ({repeated} step{'s' if repeated != 1 else ''} repeated)"


def describe_advice(advice: Decision) -> str:
    """Return what ``--max-restarts 3`` would have done after a run without restarts; "" if it would have ended too."""
    if not isinstance(advice, Restart):
        return ""
    return f"--max-restarts {ADVISED_RESTARTS} would have restarted it {describe_action(advice)}: {advice.why}"


def build_record(
    attempt_id: str,
    exit_code: int,
    end: AttemptEnd,
    decision: Decision,
    *,
    fence_until: float | None = None,
    until: float | None = None,
    advice: str = "",
) -> AttemptRecord:
    """Return the record of an attempt. ``fence_until`` and ``until`` are the ends of the waits before a restart."""
    cause = FirstCause(signature=end.signature, host=end.host, confidence=end.confidence, text=end.sentence)
    return AttemptRecord(
        attempt=end.number,
        run=attempt_id,
        hosts=end.hosts,
        exit_code=exit_code,
        began=end.began_at if end.began_at is not None else end.started_at,
        started=end.started_at if end.has_started else None,
        failed=end.failed_at,
        ended=end.ended_at,
        first_step_at=end.first_step_at,
        last_step_at=end.last_step_at,
        steps=(end.steps.first, end.steps.last) if end.steps else None,
        cause=cause,
        lost=end.lost,
        next=_build_next_action(decision, fence_until=fence_until, until=until, advice=advice),
    )


def _build_next_action(
    decision: Decision, *, fence_until: float | None, until: float | None, advice: str
) -> NextAction:
    name, why = decision.failure_class, decision.why
    if isinstance(decision, EndRun):
        return NextAction(action="end", failure_class=name, why=why, reason=decision.reason, advice=advice)
    return NextAction(
        action="restart",
        failure_class=name,
        why=why,
        changes=describe_action(decision),
        used=decision.used,
        wait=decision.wait_seconds,
        fence_until=fence_until,
        until=until,
        hosts=decision.roster.hosts,
        replaced=decision.roster.replaced,
        dropped=decision.roster.dropped,
    )
