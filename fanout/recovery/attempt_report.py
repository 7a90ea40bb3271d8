"""Report about attempts: the message after each one, the table at the end of a run, and one record per attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fanout.model.hosts import fold_names
from fanout.recovery.attempt import AttemptEnd, RecoveryOptions
from fanout.recovery.decision import ADVISED_RESTARTS, Decision, EndRun, Restart
from fanout.recovery.progress import count_lost_steps
from fanout.text.table import format_table
from fanout.text.units import format_duration

_ENDS = {
    "not-restartable": "not restarted: {why}",
    "before-first-step": "not restarted: {why}",
    "same-place": "not restarted: {why}",
    "repeated": "not restarted: {why}",
    "budget": "not restarted: {why}",
    "rate-limit": "not restarted: {why}",
    "no-hosts": "not restarted: {why}",
    "does-not-resume": "not restarted: {why}; --allow-from-scratch restarts it anyway",
}


def format_restart(options: RecoveryOptions, last: AttemptEnd, restart: Restart) -> str:
    """Return the message before a restart: what failed, and what fanout does now."""
    number = f"restart {restart.used} of {options.max_restarts}" if restart.used else "restart (not counted)"
    return f"attempt {last.number} failed: {last.sentence}\n        {number}: {describe_action(restart)}"


def describe_action(restart: Restart) -> str:
    """Return what changes with a restart: ``gpu05 replaces gpu02 as node rank 1``."""
    roster = restart.roster
    parts = [f"{new} replaces {old} as node rank {roster.hosts.index(new)}" for old, new in roster.replaced]
    if roster.dropped:
        parts.append(f"without {fold_names(roster.dropped)}, on {len(roster.hosts)} hosts")
    if roster.added:
        parts.append(f"with {fold_names(roster.added)} again")
    return "; ".join(parts) or ("on the same hosts" if len(roster.hosts) > 1 else "on the same host")


def describe_first_step(history: Sequence[AttemptEnd], step: int) -> str:
    """Return the message about the first step of an attempt after ``history``; "" for the first attempt."""
    before = [each.steps for each in history if each.steps is not None]
    if not history:
        return ""
    number = history[-1].number + 1
    if not before:
        return f"attempt {number} begins at step {step}"
    best = max(each.last for each in before)
    if step <= before[0].first and best > before[0].first:
        return f"attempt {number} begins at step {step} again, after step {best}: the task does not resume"
    repeated = max(0, best + 1 - step)
    return f"attempt {number} continues at step {step} ({repeated} step{'s' if repeated != 1 else ''} repeated)"


def list_report_lines(
    history: Sequence[AttemptEnd], decisions: Sequence[Decision], last: Decision, advice: Decision | None
) -> list[str]:
    """Return the last lines of a run's report: one line per attempt if there were restarts, and why there is no other.

    ``last`` is the decision that ended the run. ``advice`` is what ``--max-restarts 3`` would have done after a run without restarts.
    """
    lines: list[str] = []
    if len(history) > 1:
        rows = [_build_row(history[: index + 1], decision) for index, decision in enumerate(decisions)]
        lines += ["", *format_table(rows, header=("ATTEMPT", "HOSTS", "STEPS", "TIME", "END", "THEN"))]
        share = compute_productive_share(history)
        lost = sum(count_lost_steps(history[: index + 1]) or 0 for index in range(len(history)))
        if share is not None:
            steps = f"; {lost} step{'s' if lost != 1 else ''} repeated" if lost else ""
            lines.append(f"productive: {100 * share:.0f} % of {format_duration(_total_seconds(history))}{steps}")
    if isinstance(last, EndRun) and last.reason in _ENDS:
        lines.append(_ENDS[last.reason].format(why=last.why))
    if isinstance(advice, Restart):
        lines.append(
            f"--max-restarts {ADVISED_RESTARTS} would have restarted it {describe_action(advice)}: {advice.why}"
        )
    return lines


def _build_row(history: Sequence[AttemptEnd], decision: Decision) -> tuple[str, ...]:
    last = history[-1]
    steps = f"{last.steps.first}-{last.steps.last}" if last.steps else "-"
    then = describe_action(decision) if isinstance(decision, Restart) else decision.reason.replace("-", " ")
    end = "succeeded" if last.succeeded else last.sentence
    return (
        str(last.number),
        fold_names(last.hosts),
        steps,
        format_duration(last.ended_at - last.started_at),
        end if len(end) <= 60 else f"{end[:59]}…",
        then,
    )


def _total_seconds(history: Sequence[AttemptEnd]) -> float:
    return history[-1].ended_at - history[0].started_at


def compute_productive_share(history: Sequence[AttemptEnd]) -> float | None:
    """Return the share of the time in which steps were trained that no later attempt repeated; None if unknown."""
    useful, best = 0.0, 0
    for index, attempt in enumerate(history):
        steps = attempt.steps
        if steps is None or attempt.first_step_at is None or attempt.last_step_at is None:
            continue
        later = [each.steps.first for each in history[index + 1 :] if each.steps is not None]
        kept = min([steps.last, *(first - 1 for first in later)]) - max(best, steps.first - 1)
        if steps.last > steps.first:
            pace = (attempt.last_step_at - attempt.first_step_at) / (steps.last - steps.first)
            useful += max(0, kept) * pace
        best = max(best, min([steps.last, *(first - 1 for first in later)]))
    total = _total_seconds(history)
    return min(1.0, useful / total) if total > 0 and any(each.steps for each in history) else None


def build_record(attempt_id: str, exit_code: int, end: AttemptEnd, decision: Decision) -> Mapping[str, Any]:
    """Return one line of ``attempts.jsonl``. Times are seconds of the launcher's clock."""
    action: dict[str, Any] = {"action": "end", "reason": "", "why": decision.why, "class": decision.failure_class}
    if isinstance(decision, EndRun):
        action["reason"] = decision.reason
    else:
        roster = decision.roster
        action |= {
            "action": "restart",
            "wait": decision.wait_seconds,
            "used": decision.used,
            "hosts": list(roster.hosts),
        }
        action |= {"replaced": [list(pair) for pair in roster.replaced], "dropped": list(roster.dropped)}
    return {
        "v": 1,
        "attempt": end.number,
        "run": attempt_id,
        "hosts": list(end.hosts),
        "exit_code": exit_code,
        "started": end.started_at,
        "failed": end.failed_at,
        "ended": end.ended_at,
        "first_step_at": end.first_step_at,
        "steps": [end.steps.first, end.steps.last] if end.steps else None,
        "cause": {"signature": end.signature, "host": end.host, "confidence": end.confidence, "text": end.sentence},
        "lost": list(end.lost),
        "next": action,
    }
