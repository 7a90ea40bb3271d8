"""Tables of recorded runs, for ``fanout ps``: the active runs, and below them those that have ended. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fanout.model.hosts import fold_names
from fanout.model.run_info import describe_attempt
from fanout.record.run_summary import RunSummary
from fanout.text.paint import Painter, paint_run_table
from fanout.text.table import GAP, count_columns, format_table
from fanout.text.units import format_age

#: A column: its header, when a narrow terminal omits it (1: first, 0: never), and its text.
_Column = tuple[str, int, Callable[[RunSummary, float], str]]
_Cells = tuple[str, int, list[str]]
LEAST_WIDTH = 12  # of a column that is cut
#: Columns that are cut in a narrow terminal: these first, and if that is not enough, these.
_CUT_FIRST = frozenset({"TASK", "HOSTS", "LAUNCHER"})
_CUT_NEXT = _CUT_FIRST | {"CAUSE", "PROGRESS"}


def render_run_tables(runs: Sequence[RunSummary], now: float, *, width: int | None, paint: Painter) -> list[str]:
    """Return the lines of both tables; ``width`` None: no column is omitted and no text is cut."""
    active, ended = [run for run in runs if run.active], [run for run in runs if not run.active]
    tables = [
        _render_table(rows, columns, now, width, paint)
        for rows, columns in ((active, _ACTIVE_COLUMNS), (ended, _ENDED_COLUMNS))
        if rows
    ]
    return [line for number, table in enumerate(tables) for line in ([""] if number else []) + table]


def _render_table(
    runs: Sequence[RunSummary], columns: Sequence[_Column], now: float, width: int | None, paint: Painter
) -> list[str]:
    """Return the lines of one table, without the columns that do not fit, or for which no run has a value."""
    texts = [(name, order, [text(run, now) for run in runs]) for name, order, text in columns]
    shown = _omit_columns([column for column in texts if any(column[2])], width)
    rows = list(zip(*(cells for _, _, cells in shown), strict=True))
    header = [name for name, _, _ in shown]
    for cut in (_CUT_FIRST, _CUT_NEXT):
        whole = frozenset(at for at, name in enumerate(header) if name not in cut)
        lines = format_table(rows, header=header, whole=whole, width=width)
        if width is None or max(map(count_columns, lines)) <= width:
            break
    return paint_run_table(lines, paint)


def _omit_columns(columns: Sequence[_Cells], width: int | None) -> list[_Cells]:
    """Return the columns that fit into the width, in which a column that may be cut has at least ``LEAST_WIDTH``."""
    kept = list(columns)
    while width is not None and sum(map(_measure_column, kept)) + len(GAP) * (len(kept) - 1) > width:
        omitted = min((column for column in kept if column[1]), key=lambda column: column[1], default=None)
        if omitted is None:
            break
        kept.remove(omitted)
    return kept


def _measure_column(column: _Cells) -> int:
    """Return the columns of the terminal that this column needs."""
    name, _, cells = column
    widest = max(map(count_columns, (name, *cells)))
    return min(widest, LEAST_WIDTH) if name in _CUT_FIRST else widest


def _describe_state(run: RunSummary, now: float) -> str:
    """Return the state; the exit status only of a failure, because the other states explain theirs."""
    code = f" ({run.exit_code})" if run.state == "failed" else ""
    attempt = "" if _is_waiting(run, now) else _describe_attempt(run)
    return f"{run.state}{code}" + (f", {attempt}" if attempt else "")


def _describe_attempt(run: RunSummary) -> str:
    return describe_attempt(run.attempt, run.max_restarts, run.restarts_used)


def _is_waiting(run: RunSummary, now: float) -> bool:
    return run.restart_at is not None and run.restart_at - now >= 1


def _describe_progress(run: RunSummary, now: float) -> str:
    """Return the last step; before a restart, the next attempt and the time until it."""
    if run.restart_at is not None and _is_waiting(run, now):
        return f"{_describe_attempt(run)} in {max(1, round(run.restart_at - now))} s"
    return run.progress


_NAMES: tuple[_Column, ...] = (
    ("RUN", 0, lambda run, now: run.run),
    ("NAME", 0, lambda run, now: run.name),
    ("STATE", 0, _describe_state),
)
_ACTIVE_COLUMNS: tuple[_Column, ...] = (
    *_NAMES,
    ("AGE", 0, lambda run, now: "" if run.since is None else format_age(now - run.since)),
    ("PROGRESS", 0, _describe_progress),
    ("TASK", 3, lambda run, now: run.title),
    ("HOSTS", 2, lambda run, now: fold_names(run.hosts)),
    ("LAUNCHER", 1, lambda run, now: run.launcher),
)
_ENDED_COLUMNS: tuple[_Column, ...] = (
    *_NAMES,
    ("AGO", 0, lambda run, now: "" if run.ended is None else format_age(now - run.ended)),
    ("CAUSE", 0, lambda run, now: run.cause),
    ("PROGRESS", 2, lambda run, now: run.progress),
    ("TASK", 3, lambda run, now: run.title),
    ("HOSTS", 1, lambda run, now: fold_names(run.hosts)),
)
