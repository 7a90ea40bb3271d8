"""Grid of a view of hosts' usage: each host as its name and the blocks of its GPUs, for many hosts. Pure, without rich."""

from __future__ import annotations

from collections.abc import Sequence

from fanout.sharing.host_usage import HostUsage, Reach
from fanout.text.table import count_columns
from fanout.text.units import count_noun
from fanout.ui.host_rows import Row, get_host_colour
from fanout.ui.usage_cells import CellStyle, describe_reach, find_common_prefix, has_warning

NAME_COLUMNS = 16


def build_usage_grid(
    hosts: Sequence[HostUsage], style: CellStyle, width: int, height: int, selected: str = ""
) -> list[Row]:
    """Return all hosts as cells in at most ``height`` rows; the last row counts the hosts that do not fit."""
    if not hosts or height < 1:
        return []
    prefix = find_common_prefix([host.host for host in hosts])
    names = [host.host[len(prefix) :] for host in hosts]
    name_width = min(NAME_COLUMNS, max(count_columns(name) for name in names))
    cells = [_build_cell(host, style) for host in hosts]
    cell_width = max(sum(len(text) for text, _ in cell) for cell in cells)
    wide = 2 + name_width + 1 + cell_width + 1
    per_row = max(1, (width - 1 - len(prefix)) // wide)
    lines = -(-len(hosts) // per_row)
    shown = lines if lines <= height else height - 1
    rows: list[Row] = []
    for line in range(shown):
        row: Row = [(prefix if line == 0 else " " * len(prefix), "dim")]
        for at in range(line * per_row, min((line + 1) * per_row, len(hosts))):
            chosen = hosts[at].host == selected
            used = sum(len(text) for text, _ in cells[at])
            sign = ("▲" if style.unicode else "!") if has_warning(hosts[at]) else " "
            row += [
                ("> " if chosen else "  ", "reverse" if chosen else ""),
                (style.pad(names[at], name_width), "bold" if chosen else "dim"),
                (sign, "bold yellow"),
                *cells[at],
                (" " * (cell_width - used + 1), ""),
            ]
        rows.append(row)
    if shown < lines:
        rows.append([(f"  {count_noun(len(hosts) - shown * per_row, 'more host')}", "dim")])
    return rows


def _build_cell(host: HostUsage, style: CellStyle) -> Row:
    """Return the blocks of the GPUs; for a host without GPUs its processors; else its condition in one word."""
    if describe_reach(host):
        words = {Reach.CONNECTING: "…" if style.unicode else "~", Reach.UP: "silent", Reach.REFUSED: "refused"}
        return [(words.get(host.reach, "down"), "yellow")]
    if host.gpus:
        return style.draw_gpus(host)
    percent = "?" if host.cpu is None else f"{host.cpu:.0f}%"
    return [(f"cpu {percent}", get_host_colour(min(host.users)) if host.users else "green")]


def build_user_rows(users: Sequence[tuple[str, int, int]], width: int, height: int) -> list[Row]:
    """Return the users with their GPUs and hosts, in columns: ``alice  128 GPUs on 16 hosts``."""
    texts = [f"{user}  {count_noun(gpus, 'GPU')} on {count_noun(places, 'host')}" for user, gpus, places in users]
    if not texts or height < 1:
        return []
    wide = max(count_columns(text) for text in texts) + 4
    per_row = max(1, (width - 3) // wide)
    rows: list[Row] = []
    for start in range(0, len(texts), per_row):
        row: Row = [("  ", "")]
        for at in range(start, min(start + per_row, len(texts))):
            name = users[at][0]
            row += [
                (name, get_host_colour(name)),
                (texts[at][len(name) :] + " " * (wide - count_columns(texts[at])), ""),
            ]
        rows.append(row)
    return rows[:height]
