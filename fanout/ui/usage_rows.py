"""Rows of a view of hosts' usage: one row per host, with its processes and warnings below. Pure, without rich.

A narrow terminal drops the least important columns. If the rows do not fit, each host shows fewer processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fanout.sharing.host_usage import HostUsage
from fanout.sharing.usage_order import UsageGroup, group_processes
from fanout.text.table import count_columns
from fanout.ui.host_rows import Row, get_host_colour
from fanout.ui.usage_cells import (
    CellStyle,
    describe_reach,
    format_degrees,
    format_mib,
    format_pair,
    format_percent,
    format_power,
    format_since,
    list_warnings,
)

NAME_COLUMNS = 24
INDENT = "    "
#: (heading, priority: 1 is kept longest, function that builds the cell)
_COLUMNS: tuple[tuple[str, int, Callable[[HostUsage], str]], ...] = (
    ("FREE", 1, lambda host: f"{len(host.free_gpus)}/{len(host.gpus)}" if host.gpus else "-"),
    ("UTIL", 2, lambda host: format_percent(host.utilisation)),
    ("GPU MEM", 3, lambda host: format_pair(host.gpu_memory)),
    ("TEMP", 6, lambda host: format_degrees(host.temp)),
    ("POWER", 7, lambda host: format_power(host.watts)),
    ("CPU", 4, lambda host: format_percent(host.cpu)),
    ("RAM", 5, lambda host: format_pair(host.memory)),
    ("DISK FREE", 5, lambda host: format_mib(host.disk[0] if host.disk else None)),
)


def build_host_block(
    hosts: Sequence[HostUsage], style: CellStyle, width: int, height: int, selected: str = ""
) -> list[Row]:
    """Return the heading, all hosts, and as many processes of each as fit; [] if the hosts themselves do not fit."""
    if 1 + len(hosts) > height:
        return []
    heads = build_head_rows(hosts, style, width, selected)
    below = [_build_rows_below(host, style, width) for host in hosts]
    most = _find_share([len(rows) for rows in below], height - len(heads))
    rows = heads[:1]
    for head, under in zip(heads[1:], below, strict=True):
        rows.append(head)
        rows += under if len(under) <= most else [*under[: max(0, most - 1)], *_build_more(len(under), most)]
    return rows


def _build_more(count: int, most: int) -> list[Row]:
    return [[(f"{INDENT}+{count - most + 1} more", "dim")]] if most > 0 else []


def _find_share(counts: Sequence[int], space: int) -> int:
    """Return how many rows each host may have below its own, so that all fit."""
    share = max(counts, default=0)
    while share > 0 and sum(min(count, share) for count in counts) > space:
        share -= 1
    return share


def build_head_rows(hosts: Sequence[HostUsage], style: CellStyle, width: int, selected: str = "") -> list[Row]:
    """Return the heading and one row per host, with the columns that fit."""
    name_width = min(NAME_COLUMNS, max(8, width // 4), max([4, *(count_columns(host.host) for host in hosts)]))
    blocks = [style.draw_gpus(host) for host in hosts]
    gpu_width = max([4, *(sum(len(text) for text, _ in row) for row in blocks)])
    every = [(heading, priority, [make(host) for host in hosts]) for heading, priority, make in _COLUMNS]
    cells = [cell for cell in every if any(text != "-" for text in cell[2])]
    space = width - 1 - 2 - name_width - 2 - gpu_width
    shown = []
    for heading, _, column in sorted(cells, key=lambda cell: cell[1]):
        wide = max(len(heading), *(len(text) for text in column))
        if wide + 2 <= space:
            space -= wide + 2
            shown.append((heading, wide, column))
    order = [heading for heading, _, _ in _COLUMNS]
    shown.sort(key=lambda column: order.index(column[0]))
    head = "".join(f"  {heading:>{wide}}" for heading, wide, _ in shown)
    rows: list[Row] = [[(f"  {'HOST':<{name_width}}  {'GPUS':<{gpu_width}}{head}", "bold")]]
    for at, host in enumerate(hosts):
        chosen = host.host == selected
        row: Row = [
            ("> " if chosen else "  ", "reverse" if chosen else ""),
            (style.pad(host.host, name_width), get_host_colour(host.host)),
        ]
        reach = describe_reach(host)
        if reach:
            rows.append([*row, (f"  {style.cut(reach, width - name_width - 6)}", "yellow")])
            continue
        free = " " * (gpu_width - sum(len(text) for text, _ in blocks[at]))
        row += [("  ", ""), *blocks[at], (free, "")]
        rows.append([*row, *((f"  {column[at]:>{wide}}", "") for _, wide, column in shown)])
    return rows


def _build_rows_below(host: HostUsage, style: CellStyle, width: int) -> list[Row]:
    """Return the warnings and the processes of a host."""
    if describe_reach(host):
        return []
    sign = "!" if not style.unicode else "▲"
    warnings: list[Row] = [
        [(f"{INDENT}{style.cut(f'{sign} {text}', width - len(INDENT) - 1)}", "bold yellow")]
        for text in list_warnings(host, style.now)
    ]
    return [*warnings, *build_group_rows(group_processes(host), style, width)]


def build_group_rows(groups: Sequence[UsageGroup], style: CellStyle, width: int) -> list[Row]:
    """Return one row per group of processes: GPUs, user, memory, age, pids, run and command."""
    table = [
        (
            f"GPU {group.place}" if group.gpus else group.place or "no claim",
            group.user or "?",
            format_mib(group.memory),
            format_since(group.since, style.now),
            _format_pids(group.pids),
            f"run {group.run}" if group.run else "",
            shorten_program(group.command),
        )
        for group in groups
    ]
    if not table:
        return []
    widths = [max(count_columns(row[at]) for row in table) for at in range(6)]
    if width < 100:  # the run id is 28 columns wide: a narrow terminal shows the command instead
        widths[5] = 0 if any(row[6] for row in table) else widths[5]
    rows: list[Row] = []
    for row in table:
        place, user, *rest = row
        cells: Row = [
            (INDENT, ""),
            (style.pad(place, widths[0]), "dim"),
            ("  ", ""),
            (style.pad(user, widths[1]), get_host_colour(user)),
        ]
        text = "".join(f"  {style.pad(cell, wide)}" for cell, wide in zip(rest[:4], widths[2:], strict=True) if wide)
        used = sum(count_columns(cell) for cell, _ in cells) + count_columns(text)
        cells.append((text, ""))
        cells.append((style.cut(f"  {row[6]}", max(0, width - 1 - used)), "dim"))
        rows.append(cells)
    return rows


def shorten_program(command: str) -> str:
    """Return a command line without the directory of its program."""
    program, space, rest = command.partition(" ")
    return f"{program.rpartition('/')[2]}{space}{rest}"


def _format_pids(pids: Sequence[int]) -> str:
    if not pids:
        return ""
    return f"pid {pids[0]}" + (f" +{len(pids) - 1}" if len(pids) > 1 else "")


def build_detail(host: HostUsage, style: CellStyle, width: int) -> list[Row]:
    """Return everything about one host: its row, each GPU, warnings, and each process."""
    rows = build_head_rows([host], style, width)
    if describe_reach(host):
        return rows
    rows.append([])
    for gpu in host.gpus:
        block, colour = style.draw_gpu(gpu)
        facts = (
            f"{format_percent(gpu.util):>5}  {format_pair((gpu.used, gpu.total) if gpu.used is not None and gpu.total is not None else None):>11}"
            f"  {format_degrees(gpu.temp):>5}  {format_power(gpu.watts):>6}"
        )
        owner = "free" if gpu.is_free else ", ".join(gpu.users)
        text = style.cut(f" {facts}  {owner:<12}  {gpu.name}", width - 14)
        rows.append([(f"{INDENT}GPU {gpu.index:<3}", "dim"), (block, colour), (text, "")])
    below = _build_rows_below(host, style, width)
    return [*rows, *([[]] if below and host.gpus else []), *below]
