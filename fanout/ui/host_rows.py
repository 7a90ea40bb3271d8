"""Host rows: build one row of metrics per host, or a grid of all hosts. Pure, without rich.

A column is shown if any host has a value for it. A narrow terminal drops the least important columns.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fanout.logs.metric_line import MetricReading
from fanout.logs.run_progress import ASCII_BLOCKS, BLOCKS, RankProgress, RunProgress
from fanout.model.run_info import RunInfo
from fanout.model.state import HostState, Phase, RunState
from fanout.text.sanitize import to_single_line
from fanout.text.units import GIB, count_noun, format_age, format_count, format_size
from fanout.ui.host_load import HostLoad
from fanout.ui.outliers import SILENT_SECONDS, Outlier, OutlierKind
from fanout.ui.status_messages import describe_exit, was_stopped

Row = list[tuple[str, str]]  # (text, style); styles are rich's names

_ANSI = {"cyan": 36, "green": 32, "magenta": 35, "bright_blue": 94, "yellow": 33, "bright_cyan": 96, "bright_green": 92,
         "bright_magenta": 95}  # fmt: skip
HOST_COLOURS = ("cyan", "green", "magenta", "bright_blue", "yellow", "bright_cyan", "bright_green", "bright_magenta")
STYLES = {
    "good": "green",
    "busy": "cyan",
    "bad": "bold red",
    "odd": "yellow",
    "over": "dim",
    "stopped": "dim",
    "idle": "dim",
}
_SYMBOLS = {"good": "●", "busy": "◌", "bad": "✗", "odd": "!", "over": "✓", "stopped": "■", "idle": "·"}
_ASCII = {"good": "*", "busy": "o", "bad": "x", "odd": "!", "over": "+", "stopped": "-", "idle": "."}
_OUTLIER_TEXTS = {
    OutlierKind.BLOCKING: "blocking",
    OutlierKind.SILENT: "silent",
    OutlierKind.SLOW: "slow",
    OutlierKind.HOT: "hot",
}
_WORDS_WIDTH = 10
_GPUS = 16  # blocks in a row


def get_host_code(host: str) -> int:
    """Return the SGR code of a host's colour; bold for a line of several hosts, whose ``host`` is ""."""
    return _ANSI[get_host_colour(host)] if host else 1


def get_host_colour(host: str) -> str:
    """Return the colour of a host: the same in every run, and never red, which means an error."""
    return HOST_COLOURS[zlib.crc32(host.encode()) % len(HOST_COLOURS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayData:
    """Input of one frame besides the run's state: metrics of each host, progress of the run, and the row of keys."""

    lines: Mapping[str, int]
    readings: Mapping[str, MetricReading]
    progress: RunProgress
    loads: Mapping[str, HostLoad] = field(default_factory=dict)
    warnings: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    ranks: RankProgress = field(default_factory=RankProgress)
    slow: Mapping[str, str] = field(default_factory=dict)  # host -> how slow, in one or two words
    hung: Mapping[str, str] | None = None  # host -> where its rank is while the others wait; None: no hang
    bars: Mapping[str, str] = field(default_factory=dict)  # host -> its current progress bar
    keys: str = ""
    replay: bool = False  # the view shows a recorded run


def get_condition(host: HostState, state: RunState) -> str:
    """Return the condition of a host: good, busy, bad, odd, over, stopped or idle."""
    if was_stopped(host, state) and not (host.cleaned_up is not None and host.cleaned_up.left):
        return "stopped"
    if host.has_failed or (host.cleaned_up is not None and host.cleaned_up.left):
        return "bad"
    if host.disconnected_at is not None and not host.phase.is_final:
        return "odd"
    if host.phase is Phase.RUNNING:
        return "good"
    if host.exit is not None:
        return "over"
    if host.phase is Phase.RELEASED:
        return "stopped"
    return "idle" if host.phase is Phase.WAITING else "busy"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowContext:
    """Input that all rows of one frame share."""

    heading: RunInfo
    state: RunState
    display: DisplayData
    width: int
    unicode: bool
    outliers: Mapping[str, Outlier]

    def get_relative_condition(self, host: HostState) -> str:
        """Return the condition of a host; a good host that is an outlier is "odd"."""
        how = get_condition(host, self.state)
        return "odd" if how == "good" and host.name in self.outliers else how

    def get_symbol(self, how: str) -> str:
        return (_SYMBOLS if self.unicode else _ASCII)[how]

    def get_load_block(self, percent: float | None) -> str:
        if percent is None:
            return "?"
        return (BLOCKS if self.unicode else ASCII_BLOCKS)[min(7, int(max(0.0, percent) / 12.5))]


def describe_host(host: HostState, state: RunState) -> str:
    """Return the most important fact about a host: connection lost, error, exit, or else its phase."""
    if host.disconnected_at is not None and not host.phase.is_final:
        why = f" ({to_single_line(host.disconnect_reason)})" if host.disconnect_reason else ""
        return f"link lost {format_age(state.now - host.disconnected_at)}{why}, attempt {host.attempt}"
    if host.trouble is not None:
        return f"{host.phase.value}: {to_single_line(host.trouble.message)}"
    if host.cleaned_up is not None and host.cleaned_up.left:
        return f"{describe_exit(host)}; {len(host.cleaned_up.left)} left behind"
    if host.exit is not None:
        return describe_exit(host)
    if host.phase is Phase.RELEASED:
        return "not started"
    if host.stop_at is not None:
        return f"stopping {format_age(state.now - host.stop_at)}"
    return str(host.phase.value)


def build_host_rows(frame: RowContext, hosts: Sequence[HostState], *, why: bool = False) -> list[Row]:
    """Return one row per host, in columns. With ``why``, an outlier shows its difference instead of its metrics."""
    heads = [_build_head(frame, host) for host in hosts]
    max_rows = frame.width - max((_compute_row_width(head) for head in heads), default=0)
    columns: list[tuple[int, int, list[tuple[str, str]]]] = []
    for place, rank, make in _COLUMNS:
        cells = [make(frame, host) if _has_space_for_metrics(frame, host) else ("", "") for host in hosts]
        wide = max((len(text) for text, _ in cells), default=0)
        if wide:
            columns.append((rank, place, [(f"  {text:<{wide}}", style) for text, style in cells]))
    chosen: list[tuple[int, list[tuple[str, str]]]] = []
    for _, place, cells in sorted(columns, key=lambda column: column[:2]):
        if len(cells[0][0]) < max_rows:
            max_rows -= len(cells[0][0])
            chosen.append((place, cells))
    chosen.sort(key=lambda column: column[0])
    rows = []
    for at, host in enumerate(hosts):
        outlier = frame.outliers.get(host.name)
        row = heads[at]
        if why and outlier is not None and outlier.words:
            row = [*row, (f"  {outlier.words}", STYLES["odd"])]
        elif _has_space_for_metrics(frame, host):
            row = [*row, *(cells[at] for _, cells in chosen)]
        rows.append(row)
    return rows


def _compute_row_width(row: Row) -> int:
    return sum(len(text) for text, _ in row)


def _has_space_for_metrics(frame: RowContext, host: HostState) -> bool:
    """Return whether the status of the host is short enough to leave room for its metrics."""
    return len(describe_host(host, frame.state)) <= _WORDS_WIDTH


def _build_head(frame: RowContext, host: HostState) -> Row:
    """Return the cells before the metrics: symbol, name, node, ranks and status."""
    how = frame.get_relative_condition(host)
    names = min(24, max(len(name) for name in frame.heading.hosts))
    row: Row = [
        (f" {frame.get_symbol(how)} ", STYLES[how]),
        (f"{host.name[:names]:<{names}}", get_host_colour(host.name)),
    ]
    node, slots = frame.heading.ranks.get(host.name, (None, None))
    digits = len(str(len(frame.heading.hosts) - 1))
    if node is not None:
        row.append((f"  node {node:<{digits}}" if frame.width >= 100 else f"  {node:>{digits}}", "dim"))
    if slots is not None and frame.width >= 100:
        row.append((f"  {count_noun(slots, 'rank')}", "dim"))
    words = describe_host(host, frame.state)
    outlier = frame.outliers.get(host.name)
    if how == "odd" and outlier is not None and outlier.what in _OUTLIER_TEXTS:
        words = _OUTLIER_TEXTS[outlier.what]
    row.append((f"  {words:<{_WORDS_WIDTH}}", STYLES[how] if how in ("bad", "odd") else ""))
    return row


def _build_load_cell(frame: RowContext, host: HostState) -> tuple[str, str]:
    load = frame.display.loads.get(host.name)
    if load is None:
        return "", ""
    if load.gpus:
        style = "yellow" if load.idle_gpus else "green"
        return "gpu " + "".join(frame.get_load_block(gpu) for gpu in load.gpus[:_GPUS]), style
    if load.error:
        return "gpu ?", "yellow"
    return (f"cpu {load.cpu:3.0f}%", "") if load.cpu is not None else ("", "")


def _build_memory_cell(frame: RowContext, host: HostState) -> tuple[str, str]:
    load = frame.display.loads.get(host.name)
    pair = load and (load.gpu_memory if load.gpus else load.memory)
    if not pair:
        return "", ""
    return f"{pair[0] / GIB:.0f}/{pair[1] / GIB:.0f}G", "yellow" if pair[0] > 0.97 * pair[1] else ""


def _build_temperature_cell(frame: RowContext, host: HostState) -> tuple[str, str]:
    load = frame.display.loads.get(host.name)
    if load is None or load.temp is None:
        return "", ""
    watts = f" {load.watts:.0f} W" if load.watts is not None else ""
    return f"{load.temp:.0f}{'°' if frame.unicode else ' '}C{watts}", "dim"


def _build_step_cell(frame: RowContext, host: HostState) -> tuple[str, str]:
    reading = frame.display.readings.get(host.name)
    if host.name in frame.display.ranks.steps:  # its ranks do not wait for each other
        return "step {}-{}".format(*frame.display.ranks.steps[host.name]), "yellow"
    return (f"step {reading.step}", "") if reading is not None and reading.step is not None else ("", "")


def _build_slow_cell(frame: RowContext, host: HostState) -> tuple[str, str]:
    """Return how much longer the steps of this host, or of one of its ranks, take than those of the others."""
    return frame.display.slow.get(host.name, ""), "yellow"


def _build_loss_cell(frame: RowContext, host: HostState) -> tuple[str, str]:
    reading = frame.display.readings.get(host.name)
    return (f"loss {reading.loss:.4f}", "") if reading is not None and reading.loss is not None else ("", "")


def _build_last_line_cell(frame: RowContext, host: HostState) -> tuple[str, str]:
    if host.last_output_at is None or host.exit is not None:
        return "", ""
    quiet = frame.state.now - host.last_output_at
    what = "last line" if frame.width >= 100 else "last"
    return f"{what} {format_age(quiet):>6}", "yellow" if quiet > SILENT_SECONDS else "dim"


def _build_warnings_cell(frame: RowContext, host: HostState) -> tuple[str, str]:
    count = frame.display.warnings.get(host.name, 0)
    return (f"{format_count(count)} warn", "yellow") if count else ("", "")


def _build_errors_cell(frame: RowContext, host: HostState) -> tuple[str, str]:
    count = frame.display.errors.get(host.name, 0)
    return (f"{format_count(count)} err", "bold red") if count else ("", "")


def _build_lines_cell(frame: RowContext, host: HostState) -> tuple[str, str]:
    return (f"{format_count(frame.display.lines.get(host.name, 0)):>5} lines", "dim") if host.received else ("", "")


def _build_bytes_cell(frame: RowContext, host: HostState) -> tuple[str, str]:
    return (f"{format_size(host.received_bytes):>7}", "dim") if host.received else ("", "")


#: (position in the row, priority: 1 is kept longest, function that builds the cell)
_COLUMNS: tuple[tuple[int, int, Callable[[RowContext, HostState], tuple[str, str]]], ...] = (
    (1, 1, _build_load_cell),
    (2, 3, _build_memory_cell),
    (3, 8, _build_temperature_cell),
    (4, 4, _build_step_cell),
    (5, 2, _build_slow_cell),
    (6, 6, _build_loss_cell),
    (7, 5, _build_last_line_cell),
    (8, 7, _build_warnings_cell),
    (9, 2, _build_errors_cell),
    (10, 9, _build_lines_cell),
    (11, 10, _build_bytes_cell),
)


def build_grid(frame: RowContext, max_rows: int) -> list[Row]:
    """Return all hosts as cells that show load or condition, in at most ``max_rows`` rows; names only if they fit."""
    hosts = frame.heading.hosts
    head, names = _split_common_prefix(hosts)
    wide = max(len(name) for name in names) + 3
    per_row = max(1, (frame.width - len(head) - 7) // wide)
    lines = -(-len(names) // per_row)
    if lines > max_rows:
        return _build_nameless_grid(frame, max_rows)
    rows: list[Row] = []
    for line in range(lines):
        row: Row = [(f" {head}" if line == 0 else " " * (len(head) + 1), "dim")]
        for at in range(line * per_row, min((line + 1) * per_row, len(names))):
            row += [(f"{names[at]:>{wide - 1}}", "dim"), _build_grid_cell(frame, hosts[at])]
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
