"""Host rows: build one row of metrics per host. Pure, without rich.

A column is shown if any host has a value for it. A narrow terminal drops the least important columns.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field

from fanout.logs.metric_line import MetricReading
from fanout.logs.run_progress import ASCII_BLOCKS, BLOCKS, RankProgress, RunProgress
from fanout.model.frozen import frozen
from fanout.model.run_info import RunInfo
from fanout.model.state import HostState, RunState
from fanout.text.table import count_columns, cut_text
from fanout.text.units import GIB, count_noun, format_age, format_count, format_size
from fanout.ui.host_condition import describe_host, get_host_sign
from fanout.ui.host_load import HostLoad
from fanout.ui.outliers import SILENT_SECONDS, Outlier, OutlierKind
from fanout.ui.run_condition import RunCondition, format_seconds
from fanout.ui.view_facts import ReplayPosition

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
_OUTLIER_TEXTS = {OutlierKind.BLOCKING: "blocking", OutlierKind.SLOW: "slow", OutlierKind.HOT: "hot"}
_WORDS_WIDTH, _LONGEST_WORDS = 10, 20  # of the status; a host with a longer one shows no metrics
_NAME_COLUMNS = 24
_GPUS = 16  # blocks in a row


def get_host_code(host: str) -> int:
    """Return the SGR code of a host's colour; bold for a line of several hosts, whose ``host`` is ""."""
    return _ANSI[get_host_colour(host)] if host else 1


def get_host_colour(host: str) -> str:
    """Return the colour of a host: the same in every run, and never red, which means an error."""
    return HOST_COLOURS[zlib.crc32(host.encode()) % len(HOST_COLOURS)]


@frozen
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
    hint: Callable[[RunCondition], str] | None = None  # the row of keys
    asks: bool = False  # the row of keys asks the user something, so it is always shown
    host: str = ""  # the only host that is shown
    selected: str = ""  # the host that the arrow keys have reached
    overlay: Sequence[str] = ()  # lines instead of the hosts and metrics
    replay: ReplayPosition | None = None  # of a view that shows a recorded run
    filters: Sequence[str] = ()  # what the log is limited to, such as ``rank 3 only``


@frozen
class RowContext:
    """Input that all rows of one frame share."""

    heading: RunInfo
    state: RunState
    display: DisplayData
    width: int
    unicode: bool
    outliers: Mapping[str, Outlier]
    condition: RunCondition  # of the run

    def get_relative_condition(self, host: HostState) -> str:
        """Return the sign of a host; a good host that is an outlier is "odd"."""
        how = get_host_sign(host, self.state)
        return "odd" if how == "good" and host.name in self.outliers else how

    def describe_host(self, host: HostState) -> str:
        """Return the status of a host: why it is an outlier, or else the most important fact about it."""
        outlier = self.outliers.get(host.name)
        if outlier is not None and self.get_relative_condition(host) == "odd":
            if outlier.what is OutlierKind.SILENT:
                return f"silent {format_seconds(self.state.now - (host.last_output_at or self.state.now))}"
            if outlier.what in _OUTLIER_TEXTS:
                return _OUTLIER_TEXTS[outlier.what]
        return describe_host(host, self.heading, self.state, self.condition)

    def get_symbol(self, how: str) -> str:
        return (_SYMBOLS if self.unicode else _ASCII)[how]

    def get_load_block(self, percent: float | None) -> str:
        if percent is None:
            return "?"
        return (BLOCKS if self.unicode else ASCII_BLOCKS)[min(7, int(max(0.0, percent) / 12.5))]


def build_host_rows(frame: RowContext, hosts: Sequence[HostState], *, why: bool = False) -> list[Row]:
    """Return one row per host, in columns. With ``why``, an outlier shows its difference instead of its metrics."""
    words = {host.name: frame.describe_host(host) for host in hosts}
    width = max([_WORDS_WIDTH, *(len(text) for text in words.values() if len(text) <= _LONGEST_WORDS)])
    heads = [_build_head(frame, host, words[host.name], width) for host in hosts]
    short = [head for head, host in zip(heads, hosts, strict=True) if len(words[host.name]) <= width]
    space = frame.width - max((_compute_row_width(head) for head in short), default=0)
    columns: list[tuple[int, int, list[tuple[str, str]]]] = []
    for place, rank, make in _COLUMNS:
        cells = [make(frame, host) if len(words[host.name]) <= width else ("", "") for host in hosts]
        wide = max((len(text) for text, _ in cells), default=0)
        if wide:
            columns.append((rank, place, [(f"  {text:<{wide}}", style) for text, style in cells]))
    chosen: list[tuple[int, list[tuple[str, str]]]] = []
    for _, place, cells in sorted(columns, key=lambda column: column[:2]):
        if len(cells[0][0]) < space:
            space -= len(cells[0][0])
            chosen.append((place, cells))
    chosen.sort(key=lambda column: column[0])
    rows = []
    for at, host in enumerate(hosts):
        outlier = frame.outliers.get(host.name)
        row = heads[at]
        if why and outlier is not None and outlier.words:
            row = [*row, (f"  {outlier.words}", STYLES["odd"])]
        elif len(words[host.name]) <= width:
            row = [*row, *(cells[at] for _, cells in chosen)]
        rows.append(row)
    return rows


def _compute_row_width(row: Row) -> int:
    return sum(count_columns(text) for text, _ in row)


def _build_head(frame: RowContext, host: HostState, words: str, width: int) -> Row:
    """Return the cells before the metrics: symbol, name, node, ranks and status, padded to ``width``."""
    how = frame.get_relative_condition(host)
    chosen = host.name == frame.display.selected
    row: Row = [
        (f"{'>' if chosen else ' '}{frame.get_symbol(how)} ", "reverse" if chosen else STYLES[how]),
        (format_host_name(host.name, frame), get_host_colour(host.name)),
    ]
    node, slots = frame.heading.ranks.get(host.name, (None, None))
    digits = len(str(len(frame.heading.hosts) - 1))
    if node is not None:
        row.append((f"  node {node:<{digits}}" if frame.width >= 100 else f"  {node:>{digits}}", "dim"))
    if slots is not None and frame.width >= 100:
        row.append((f"  {count_noun(slots, 'rank')}", "dim"))
    row.append((f"  {words:<{width}}", STYLES[how] if how in ("bad", "odd") else ""))
    return row


def format_host_name(name: str, frame: RowContext) -> str:
    """Return the name, cut and padded to the column of names, which has at most a third of the screen."""
    most = max(8, min(_NAME_COLUMNS, frame.width // 3))
    width = min(most, max(count_columns(each) for each in frame.heading.hosts))
    cut = cut_text(name, width, ellipsis="…" if frame.unicode else "~")
    return cut + " " * (width - count_columns(cut))


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
    count = frame.display.lines.get(host.name, 0)
    return (f"{format_count(count):>5} line{'s' if count != 1 else ' '}", "dim") if host.received else ("", "")


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
