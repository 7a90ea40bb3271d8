"""Title row of the live view: run, task, time, filters and condition, for any width. Pure, without rich."""

from __future__ import annotations

from collections.abc import Sequence

from fanout.model.attempt_plan import split_attempt_id
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.text.sanitize import to_single_line
from fanout.text.table import count_columns, cut_text
from fanout.text.units import count_noun, format_clock
from fanout.ui.host_rows import Row
from fanout.ui.run_condition import ALARMS, WARNINGS, RunCondition, RunStatus
from fanout.ui.view_facts import ReplayPosition

TASK_COLUMNS = 8  # of the task that a title shows at least, before it drops other parts
GAP = "  "


def build_title(
    heading: RunInfo,
    state: RunState,
    status: RunStatus,
    *,
    filters: Sequence[str] = (),
    replay: ReplayPosition | None = None,
    width: int,
    unicode: bool = True,
) -> Row:
    """Return the title. If it is too wide, it drops parts; the condition of the run comes last and is kept longest."""
    ellipsis = "…" if unicode else "~"
    word = str(status) if replay is None else f"{_describe_replay(replay, unicode=unicode)}{GAP}{status}"
    clock = format_clock(state.now - state.began_at) if replay is None else _format_position(replay)
    task = to_single_line(heading.title)
    for head, tail in _list_layouts(heading, clock, GAP.join(filters)):
        space = width - 1 - count_columns(f"{head}{tail}{word}")
        if space >= min(count_columns(task), TASK_COLUMNS):
            return _build_row(head, cut_text(task, space, ellipsis=ellipsis), tail, word, status)
    for tail in (f" {clock}{GAP}{GAP.join(filters)}{GAP}", f" {clock}{GAP}", " "):
        if count_columns(tail + word) < width:
            return _build_row("", "", tail, word, status)
    return _build_row("", "", " ", cut_text(word, max(0, width - 2), ellipsis=ellipsis), status)


def _list_layouts(heading: RunInfo, clock: str, filters: str) -> list[tuple[str, str]]:
    """Return the text before and after the task, the widest layout first."""
    name = f"{to_single_line(heading.name)}{GAP}" if heading.name else ""
    attempt = heading.attempt.describe()
    run_id = split_attempt_id(heading.run_id)[0] if attempt else heading.run_id
    end = (f"{GAP}{attempt}" if attempt else "") + f"{GAP}{clock}{GAP}" + (f"{filters}{GAP}" if filters else "")
    hosts = f"{GAP}{count_noun(len(heading.hosts), 'host')}{end}"
    full = f" fanout{GAP}{name}run {run_id}{GAP}"
    return [
        (full, hosts),
        (full, end),
        (f" {name}{run_id}{GAP}", end),
        *([(f" {name}", end)] if name else []),
        (" ", end),
    ]


def _build_row(head: str, task: str, tail: str, word: str, status: RunStatus) -> Row:
    condition = status.condition
    style = "bold"
    if condition in ALARMS:
        style = "bold red"
    elif condition in WARNINGS:
        style = "bold yellow"
    elif condition is RunCondition.RUNNING:
        style = "bold green"
    return [(head, "bold"), (task, ""), (tail, "dim"), (word, style)]


def _describe_replay(replay: ReplayPosition, *, unicode: bool) -> str:
    times = "×" if unicode else "x"
    speed = "max" if replay.speed == float("inf") else f"{times}{replay.speed:g}"
    return f"REPLAY {speed}{' paused' if replay.paused else ''}"


def _format_position(replay: ReplayPosition) -> str:
    return f"{format_clock(replay.at)} / {format_clock(replay.total)}"
