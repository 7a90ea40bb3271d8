"""Host grid: every host as one cell that shows its load or its condition. Pure, without rich."""

from __future__ import annotations

from fanout.text.table import count_columns
from fanout.ui.host_rows import STYLES, Row, RowContext
from fanout.ui.outliers import OutlierKind


def build_grid(frame: RowContext, max_rows: int) -> list[Row]:
    """Return all hosts as cells that show load or condition, in at most ``max_rows`` rows; names only if they fit."""
    hosts = frame.heading.hosts
    head, names = _split_common_prefix(hosts)
    wide = max(count_columns(name) for name in names) + 3
    per_row = max(1, (frame.width - len(head) - 7) // wide)
    lines = -(-len(names) // per_row)
    if lines > max_rows:
        return _build_nameless_grid(frame, max_rows)
    rows: list[Row] = []
    for line in range(lines):
        row: Row = [(f" {head}" if line == 0 else " " * (len(head) + 1), "dim")]
        for at in range(line * per_row, min((line + 1) * per_row, len(names))):
            row += [
                (" " * (wide - 1 - count_columns(names[at])) + names[at], "dim"),
                _build_grid_cell(frame, hosts[at]),
            ]
        rows.append(row)
    return rows


def _build_nameless_grid(frame: RowContext, max_rows: int) -> list[Row]:
    """Return the cells without names, in groups of ten and in hostfile order; ``+N`` counts the hosts that do not fit."""
    hosts = frame.heading.hosts
    head, indent = f" {len(hosts)} hosts", " " * len(f" {len(hosts)} hosts")
    per_row = max(1, (frame.width - len(head) - 7) // 11) * 10
    lines = min(-(-len(hosts) // per_row), max_rows)
    rows: list[Row] = []
    for line in range(lines):
        row: Row = [(head if line == 0 else indent, "dim")]
        for at in range(line * per_row, min((line + 1) * per_row, len(hosts))):
            row += [("  " if at % per_row == 0 else " ", "")] if at % 10 == 0 else []
            row.append(_build_grid_cell(frame, hosts[at]))
        rows.append(row)
    hidden = len(hosts) - lines * per_row
    if hidden > 0:
        rows[-1].append((f" +{hidden}", "dim"))
    return rows


def _build_grid_cell(frame: RowContext, host: str) -> tuple[str, str]:
    text, style = _build_sign(frame, host)
    return text, "reverse" if host == frame.display.selected else style


def _build_sign(frame: RowContext, host: str) -> tuple[str, str]:
    how = frame.get_relative_condition(frame.state.hosts[host])
    load = frame.display.loads.get(host)
    outlier = frame.outliers.get(host)
    lost = outlier is not None and outlier.what is OutlierKind.LINK_LOST
    if how in ("good", "odd") and not lost and load is not None and load.utilisation is not None:
        return frame.get_load_block(load.utilisation), STYLES[how]
    return frame.get_symbol(how), STYLES[how]


def _split_common_prefix(names: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return the common prefix of all names and the rest of each name: ``gpu`` and 01 02 03."""
    first, last = min(names), max(names)
    length = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    while length and first[length - 1].isdigit():
        length -= 1
    return first[:length], [name[length:] for name in names]
