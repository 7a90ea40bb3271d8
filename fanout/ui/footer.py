"""Block under the log: build its rows of styled text for any width and height. Pure, without rich.

The block has a title row, one row per host, a progress bar, a row with step, loss and time left, and the keys. If there
are too many hosts, a grid shows all hosts, and rows show only the outliers. Symbols carry the meaning; colour repeats it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from textwrap import wrap

from fanout.model.run_info import RunInfo
from fanout.model.state import Phase, RunState
from fanout.text.sanitize import sanitize_line, to_single_line
from fanout.text.table import count_columns
from fanout.ui.host_detail import build_host_detail
from fanout.ui.host_grid import build_grid
from fanout.ui.host_rows import DisplayData, Row, RowContext, build_host_rows
from fanout.ui.outliers import find_outliers
from fanout.ui.progress_text import describe_figures, describe_steps, describe_time_left
from fanout.ui.restart_text import describe_phase
from fanout.ui.run_condition import WITH_TIME_LEFT, Observations, find_run_status
from fanout.ui.title_row import build_title

GRID_FROM = 25
KEYS_FROM = 5  # rows; a smaller block does not show the keys


def build_footer(
    heading: RunInfo, state: RunState, display: DisplayData, *, width: int, height: int, unicode: bool = True
) -> list[Row]:
    """Return the rows of the block: at most a third of ``height``, and at least 2. The caller crops them to ``width``.

    Help, stacks and a diagnosis take as many rows as they need, except the last two of the screen.
    """
    status = find_run_status(heading, state, observe_run(display))
    title = build_title(
        heading,
        state,
        status,
        filters=display.filters,
        replay=display.replay,
        width=width,
        unicode=unicode,
    )
    hint = display.hint(status.condition) if display.hint is not None else ""
    keys: list[Row] = [[(f" {hint}", "bold yellow" if display.asks else "dim")]] if hint else []
    max_rows = max(2, height // 3)
    if not display.asks and not display.overlay and max_rows < KEYS_FROM:
        keys = []
    outliers = find_outliers(state, display.loads, display.slow, display.hung)
    frame = RowContext(
        heading=heading,
        state=state,
        display=display,
        width=width,
        unicode=unicode,
        outliers={each.host: each for each in outliers},
        condition=status.condition,
    )
    now = state.now if status.condition in WITH_TIME_LEFT else None
    progress_row = _build_progress_row(heading, display, now, width, unicode=unicode)
    below: list[Row] = [progress_row] if progress_row and state.restart is None else []
    restart_rows = _build_restart_rows(heading, state, width)[: max_rows - 1]
    left = max_rows - 1 - len(restart_rows) - len(below) - len(keys)
    if display.bars and len(state.all_hosts) < min(GRID_FROM, left):  # one row is free
        below.insert(0, _build_bar_row(display))
        left -= 1
    rows = _build_hosts(frame, [each.host for each in outliers], left)
    shown = [*restart_rows, *rows, *below][: max_rows - 1 - len(keys)]
    if display.overlay:  # at least as high as the rows that it replaces, so that the block does not move
        over = build_overlay(display.overlay, width=width, most=height - 2 - len(keys))
        shown = [*over, *([[("", "")]] * (len(shown) - len(over)))]
    return [title, *shown, *keys]


def _build_hosts(frame: RowContext, outliers: Sequence[str], left: int) -> list[Row]:
    """Return the rows of the hosts: of the only one that is shown, of each host, or a grid and the outliers."""
    hosts = frame.state.hosts
    if frame.display.host in hosts:
        return build_host_detail(frame, hosts[frame.display.host])[: max(1, left)]
    if len(hosts) < GRID_FROM and len(hosts) <= left:
        return build_host_rows(frame, frame.state.all_hosts)
    first = [frame.display.selected] if frame.display.selected in hosts else []
    named = [hosts[name] for name in dict.fromkeys([*first, *outliers])]
    rows = build_grid(frame, max(1, left - min(len(named), 3)))
    return rows + build_host_rows(frame, named[: max(0, left - len(rows))], why=True)


def build_overlay(lines: Sequence[str], *, width: int, most: int) -> list[Row]:
    """Return lines of help or of an answer, wrapped to the terminal; the last row counts those that do not fit."""
    wrapped = [part for line in lines for part in _wrap_line(sanitize_line(line, colour=False), width - 3)]
    if len(wrapped) > most:
        kept = max(0, most - 1)
        wrapped = [*wrapped[:kept], f"... {len(wrapped) - kept} more lines"]
    return [[(f"  {line}", "")] for line in wrapped]


def _wrap_line(line: str, width: int) -> list[str]:
    """Wrap a line; the rest of it is indented like its text."""
    indent = re.match(r" *(?:\S+(?: \S+)?  +)?", line)
    column = min(count_columns(indent[0]) if indent is not None else 0, max(0, width // 2))
    return wrap(line, max(10, width), subsequent_indent=" " * column) or [""]


def observe_run(display: DisplayData) -> Observations:
    """Return what the log shows of the run, for its condition."""
    return Observations(has_steps=display.progress.newest is not None, slow=display.slow, hung=display.hung)


def _build_restart_rows(heading: RunInfo, state: RunState, width: int) -> list[Row]:
    """Return the rows about a restart: what the launcher does now, and why; until an attempt runs, only why."""
    restart = state.restart
    if state.interrupts:
        return []
    if restart is not None:
        phase, action = f" {describe_phase(restart, state.now)}", to_single_line(restart.action)
        cause: Row = [(f" {to_single_line(restart.cause)}", "dim")]
        if count_columns(phase) + count_columns(action) + 4 > width:
            return [[(phase, "bold yellow")], [(f" {action}", "")], cause]
        return [[(phase, "bold yellow"), (f"   {action}", "")], cause]
    runs = all(host.phase is Phase.RUNNING for host in state.hosts.values())
    if not heading.attempt.cause or runs or state.failures:
        return []
    return [[(f" {to_single_line(heading.attempt.cause)}", "dim")]]


def _build_bar_row(display: DisplayData) -> Row:
    """Return the progress bar of the first host that has one; it stands for those of the other hosts."""
    host, text = next(iter(display.bars.items()))
    return [(f" {host} ~ ", "dim"), (text.replace("\t", " "), "")]


def _build_progress_row(
    heading: RunInfo, display: DisplayData, now: float | None, width: int, *, unicode: bool
) -> Row | None:
    """Return the row of loss, step, speed and time left; without ``now``, no time left is shown."""
    progress = display.progress
    row: Row = []
    if progress.loss is not None:
        host = f"({progress.loss_host}) " if progress.loss_host not in ("", heading.hosts[0]) else ""
        curve = progress.draw_loss_curve(max(8, min(32, width // 5)), unicode=unicode)
        row += [(f" loss {progress.loss:.4f} ", "bold"), (host, "dim"), (curve, "cyan")]
    if (steps := describe_steps(progress)) is not None:
        row.append((f"  {steps}", ""))
        if progress.step is not None and progress.total:
            row.append((f" {100 * progress.step // progress.total}%", ""))
    row += [(f"  {text}", "") for text in describe_figures(progress)]
    left = progress.estimate_time_left(now, display.ranks) if now is not None else None
    if left is not None:
        row.append((f"  {describe_time_left(left)}", "dim"))
    return row or None
