"""Tables about the attempts of a run: one line for each, the time lost between them, and the productive share. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from fanout.model.attempt_record import AttemptRecord
from fanout.model.hosts import fold_names
from fanout.text.sanitize import to_single_line
from fanout.text.table import cut_text, format_table
from fanout.text.units import count_noun, format_duration

PHASES = ("detect", "end", "fence", "backoff", "check", "start")
#: Ends of a run for which no attempt was started although the last one failed.
_NOT_RESTARTED = frozenset(
    ("not-restartable", "before-first-step", "same-place", "repeated", "budget", "rate-limit", "time-limit", "no-hosts")
)
_CAUSE_COLUMNS = 60


def render_attempts(records: Sequence[AttemptRecord], width: int | None = None) -> list[str]:
    """Return the lines of a report about the attempts: tables if there were restarts, and why no other attempt followed.

    ``width`` is that of the terminal; None: no limit.
    """
    lines: list[str] = []
    if len(records) > 1:
        rows = [_build_row(record) for record in records]
        header = ("ATTEMPT", "HOSTS", "STEPS", "TIME", "END", "THEN")
        lines += ["", *format_table(rows, header=header, whole=frozenset((0, 2, 3, 5)), width=width)]
        lines += _render_lost_time(records)
        lines += _describe_share(records)
    last = records[-1].next if records else None
    if last is not None and last.reason in _NOT_RESTARTED:
        lines.append(f"not restarted: {to_single_line(last.why)}")
    elif last is not None and last.reason == "does-not-resume":
        lines.append(f"not restarted: {to_single_line(last.why)}; --allow-from-scratch restarts it anyway")
    if last is not None and last.advice:
        lines.append(to_single_line(last.advice))
    return lines


def _build_row(record: AttemptRecord) -> tuple[str, ...]:
    steps = f"{record.steps[0]}-{record.steps[1]}" if record.steps else "-"
    began = record.started if record.started is not None else record.began
    following = record.next
    return (
        str(record.attempt),
        fold_names(record.hosts),
        steps,
        format_duration(record.ended - began),
        cut_text("succeeded" if not record.exit_code else record.cause.text, _CAUSE_COLUMNS),
        following.changes if following.action == "restart" else following.reason.replace("-", " "),
    )


def _render_lost_time(records: Sequence[AttemptRecord]) -> list[str]:
    """Return the table of the time that each restart cost, by phase."""
    rows = []
    for number, lost in measure_lost_time(records).items():
        times = [format_duration(lost[phase]) if lost.get(phase) else "-" for phase in PHASES]
        rows.append((str(number), *times, format_duration(sum(lost.values()))))
    if not rows:
        return []
    return ["", *format_table(rows, header=("LOST BEFORE ATTEMPT", *(phase.upper() for phase in PHASES), "TOTAL"))]


def measure_lost_time(records: Sequence[AttemptRecord]) -> dict[int, Mapping[str, float]]:
    """Return attempt -> phase -> seconds between the last step of the attempt before and its first step.

    detect: from the last step until the launcher saw the failure. end: until all hosts had ended their parts. fence and
    backoff: waits. check: connections, checks, and attempts that a check refused. start: from train.sh to the first step.
    """
    started = [record for record in records if record.started is not None]
    lost: dict[int, Mapping[str, float]] = {}
    for before, after in pairwise(started):
        assert after.started is not None
        fence_end = max(before.ended, before.next.fence_until or 0.0)
        wait_end = max(fence_end, before.next.until or 0.0)
        seconds: dict[str, float] = {}
        if before.failed is not None:
            if before.last_step_at is not None:
                seconds["detect"] = before.failed - before.last_step_at
            seconds["end"] = before.ended - before.failed
        seconds |= {"fence": fence_end - before.ended, "backoff": wait_end - fence_end}
        seconds["check"] = after.started - wait_end
        if after.first_step_at is not None:
            seconds["start"] = after.first_step_at - after.started
        lost[after.attempt] = {phase: max(0.0, seconds[phase]) for phase in PHASES if phase in seconds}
    return lost


def _describe_share(records: Sequence[AttemptRecord]) -> list[str]:
    share = compute_productive_share(records)
    if share is None:
        return []
    repeated = count_repeated_steps(records)
    steps = f"; {count_noun(repeated, 'step')} repeated" if repeated else ""
    return [f"productive: {100 * share:.0f} % of {format_duration(_measure_total(records))}{steps}"]


def _measure_total(records: Sequence[AttemptRecord]) -> float:
    first = records[0]
    return records[-1].ended - (first.started if first.started is not None else first.began)


def compute_productive_share(records: Sequence[AttemptRecord]) -> float | None:
    """Return the share of the time in which steps were trained that no later attempt repeated; None if unknown."""
    useful, best = 0.0, 0
    for index, record in enumerate(records):
        if record.steps is None or record.first_step_at is None or record.last_step_at is None:
            continue
        first, last = record.steps
        kept_until = min([last, *(each.steps[0] - 1 for each in records[index + 1 :] if each.steps is not None)])
        if last > first:
            pace = (record.last_step_at - record.first_step_at) / (last - first)
            useful += max(0, kept_until - max(best, first - 1)) * pace
        best = max(best, kept_until)
    total = _measure_total(records)
    return min(1.0, useful / total) if total > 0 and any(record.steps for record in records) else None


def count_repeated_steps(records: Sequence[AttemptRecord]) -> int:
    """Return how many steps were trained again after a restart."""
    repeated, best = 0, None
    for record in records:
        if record.steps is None:
            continue
        if best is not None:
            repeated += max(0, best + 1 - record.steps[0])
        best = record.steps[1] if best is None else max(best, record.steps[1])
    return repeated
