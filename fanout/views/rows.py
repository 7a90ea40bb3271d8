"""A host as a row of figures, and all hosts as a grid: the middle of the block under the log; pure, without rich.

A column is there where any host has something in it; the least telling ones give way on a narrow terminal.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fanout.state import HostState, Phase, RunState
from fanout.views.base import Heading
from fanout.views.fleet import SILENT_SECONDS, Odd, Oddity
from fanout.views.load import Load
from fanout.views.metrics import ASCII_BLOCKS, BLOCKS, Progress, Reading
from fanout.views.narrate import how_it_ended, was_stopped
from fanout.views.sanitise import sentence
from fanout.views.units import age, short, size

Row = list[tuple[str, str]]  # (text, style); styles are words that rich knows

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
_ODD_WORDS = {Oddity.HANGS: "holds up", Oddity.SILENT: "silent", Oddity.SLOW: "slow", Oddity.HOT: "hot"}
_WORDS_WIDTH = 10
_GPUS = 16  # blocks in a row
_GIB = 1 << 30


def colour_of(host: str) -> str:
    """A host's colour: the same in every run, and never red, which means an error."""
    return HOST_COLOURS[zlib.crc32(host.encode()) % len(HOST_COLOURS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What the live view knows beyond the state: each host's figures, the run's course, and which keys do what."""

    lines: Mapping[str, int]
    readings: Mapping[str, Reading]
    progress: Progress
    loads: Mapping[str, Load] = field(default_factory=dict)
    warnings: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    slow: Mapping[str, str] = field(default_factory=dict)  # host -> by how much, in a word or two
    hung: Mapping[str, str] | None = None  # host -> what its rank does while the others wait; None: no hang
    bars: Mapping[str, str] = field(default_factory=dict)  # host -> how its moving line stands
    keys: str = ""
    replay: bool = False  # nothing of this happens now


def mood(host: HostState, state: RunState) -> str:
    """One word for how a host is doing: good, busy, bad, odd, over, stopped, idle."""
    if was_stopped(host, state) and not (host.gone is not None and host.gone.left):
        return "stopped"
    if host.failed or (host.gone is not None and host.gone.left):
        return "bad"
    if host.link_lost_at is not None and not host.phase.over:
        return "odd"
    if host.phase is Phase.RUNNING:
        return "good"
    if host.exit is not None:
        return "over"
    if host.phase is Phase.FORGOTTEN:
        return "stopped"
    return "idle" if host.phase is Phase.WAITING else "busy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What every row of one frame is drawn from."""

    heading: Heading
    state: RunState
    glance: Glance
    width: int
    unicode: bool
    odd: Mapping[str, Odd]

    def look(self, host: HostState) -> str:
        """The host's mood, seen beside the fleet."""
        how = mood(host, self.state)
        return "odd" if how == "good" and host.name in self.odd else how

    def symbol(self, how: str) -> str:
        return (_SYMBOLS if self.unicode else _ASCII)[how]

    def block(self, percent: float | None) -> str:
        if percent is None:
            return "?"
        return (BLOCKS if self.unicode else ASCII_BLOCKS)[min(7, int(max(0.0, percent) / 12.5))]


def what_it_does(host: HostState, state: RunState) -> str:
    """Its phase, or what is more worth knowing."""
    if host.link_lost_at is not None and not host.phase.over:
        why = f" ({sentence(host.link_lost_why)})" if host.link_lost_why else ""
        return f"link lost {age(state.now - host.link_lost_at)}{why}, attempt {host.attempt}"
    if host.trouble is not None:
        return f"{host.phase.value}: {sentence(host.trouble.message)}"
    if host.gone is not None and host.gone.left:
        return f"{how_it_ended(host)}; {len(host.gone.left)} left behind"
    if host.exit is not None:
        return how_it_ended(host)
    if host.phase is Phase.FORGOTTEN:
        return "not started"
    if host.stop_at is not None:
        return f"stopping {age(state.now - host.stop_at)}"
    return str(host.phase.value)


def host_rows(frame: Frame, hosts: Sequence[HostState], *, why: bool = False) -> list[Row]:
    """A row for each of these hosts, in columns; ``why`` puts how it differs from the fleet in place of figures."""
    heads = [_head(frame, host) for host in hosts]
    room = frame.width - max((_long(head) for head in heads), default=0)
    columns: list[tuple[int, int, list[tuple[str, str]]]] = []
    for place, rank, make in _COLUMNS:
        cells = [make(frame, host) if _figured(frame, host) else ("", "") for host in hosts]
        wide = max((len(text) for text, _ in cells), default=0)
        if wide:
            columns.append((rank, place, [(f"  {text:<{wide}}", style) for text, style in cells]))
    chosen: list[tuple[int, list[tuple[str, str]]]] = []
    for _, place, cells in sorted(columns, key=lambda column: column[:2]):
        if len(cells[0][0]) < room:
            room -= len(cells[0][0])
            chosen.append((place, cells))
    chosen.sort(key=lambda column: column[0])
    rows = []
    for at, host in enumerate(hosts):
        odd = frame.odd.get(host.name)
        row = heads[at]
        if why and odd is not None and odd.words:
            row = [*row, (f"  {odd.words}", STYLES["odd"])]
        elif _figured(frame, host):
            row = [*row, *(cells[at] for _, cells in chosen)]
        rows.append(row)
    return rows


def _long(row: Row) -> int:
    return sum(len(text) for text, _ in row)


def _figured(frame: Frame, host: HostState) -> bool:
    """Is there nothing worth more than its figures?"""
    return len(what_it_does(host, frame.state)) <= _WORDS_WIDTH


def _head(frame: Frame, host: HostState) -> Row:
    """Symbol, name, node, ranks, and what it does."""
    how = frame.look(host)
    names = min(24, max(len(name) for name in frame.heading.hosts))
    row: Row = [(f" {frame.symbol(how)} ", STYLES[how]), (f"{host.name[:names]:<{names}}", colour_of(host.name))]
    node, slots = frame.heading.ranks.get(host.name, (None, None))
    digits = len(str(len(frame.heading.hosts) - 1))
    if node is not None:
        row.append((f"  node {node:<{digits}}" if frame.width >= 100 else f"  {node:>{digits}}", "dim"))
    if slots is not None and frame.width >= 100:
        row.append((f"  {slots} rank{'s' if slots != 1 else ''}", "dim"))
    words = what_it_does(host, frame.state)
    odd = frame.odd.get(host.name)
    if how == "odd" and odd is not None and odd.what in _ODD_WORDS:
        words = _ODD_WORDS[odd.what]
    row.append((f"  {words:<{_WORDS_WIDTH}}", STYLES[how] if how in ("bad", "odd") else ""))
    return row


def _load(frame: Frame, host: HostState) -> tuple[str, str]:
    load = frame.glance.loads.get(host.name)
    if load is None:
        return "", ""
    if load.gpus:
        style = "yellow" if load.idle_gpus else "green"
        return "gpu " + "".join(frame.block(gpu) for gpu in load.gpus[:_GPUS]), style
    if load.error:
        return "gpu ?", "yellow"
    return (f"cpu {load.cpu:3.0f}%", "") if load.cpu is not None else ("", "")


def _memory(frame: Frame, host: HostState) -> tuple[str, str]:
    load = frame.glance.loads.get(host.name)
    pair = load and (load.gpu_memory if load.gpus else load.memory)
    if not pair:
        return "", ""
    return f"{pair[0] / _GIB:.0f}/{pair[1] / _GIB:.0f} GB", "yellow" if pair[0] > 0.97 * pair[1] else ""


def _heat(frame: Frame, host: HostState) -> tuple[str, str]:
    load = frame.glance.loads.get(host.name)
    if load is None or load.temp is None:
        return "", ""
    watts = f" {load.watts:.0f} W" if load.watts is not None else ""
    return f"{load.temp:.0f}{'°' if frame.unicode else ' '}C{watts}", "dim"


def _step(frame: Frame, host: HostState) -> tuple[str, str]:
    reading = frame.glance.readings.get(host.name)
    return (f"step {reading.step}", "") if reading is not None and reading.step is not None else ("", "")


def _slow(frame: Frame, host: HostState) -> tuple[str, str]:
    """By how much its steps, or those of one of its ranks, take longer than the others'."""
    return frame.glance.slow.get(host.name, ""), "yellow"


def _loss(frame: Frame, host: HostState) -> tuple[str, str]:
    reading = frame.glance.readings.get(host.name)
    return (f"loss {reading.loss:.4f}", "") if reading is not None and reading.loss is not None else ("", "")


def _last(frame: Frame, host: HostState) -> tuple[str, str]:
    if host.last_output_at is None or host.exit is not None:
        return "", ""
    quiet = frame.state.now - host.last_output_at
    what = "last line" if frame.width >= 100 else "last"
    return f"{what} {age(quiet):>6}", "yellow" if quiet > SILENT_SECONDS else "dim"


def _warnings(frame: Frame, host: HostState) -> tuple[str, str]:
    count = frame.glance.warnings.get(host.name, 0)
    return (f"{short(count)} warn", "yellow") if count else ("", "")


def _errors(frame: Frame, host: HostState) -> tuple[str, str]:
    count = frame.glance.errors.get(host.name, 0)
    return (f"{short(count)} err", "bold red") if count else ("", "")


def _lines(frame: Frame, host: HostState) -> tuple[str, str]:
    return (f"{short(frame.glance.lines.get(host.name, 0)):>5} lines", "dim") if host.received else ("", "")


def _bytes(frame: Frame, host: HostState) -> tuple[str, str]:
    return (f"{size(host.bytes):>7}", "dim") if host.received else ("", "")


#: (place in the row, the smaller the sooner it gets its room, what stands in it)
_COLUMNS: tuple[tuple[int, int, Callable[[Frame, HostState], tuple[str, str]]], ...] = (
    (1, 1, _load),
    (2, 3, _memory),
    (3, 8, _heat),
    (4, 4, _step),
    (5, 2, _slow),
    (6, 6, _loss),
    (7, 5, _last),
    (8, 7, _warnings),
    (9, 2, _errors),
    (10, 9, _lines),
    (11, 10, _bytes),
)


def grid(frame: Frame, room: int) -> list[Row]:
    """All hosts as cells of their load or their mood, in at most ``room`` rows; without names where they do not fit."""
    hosts = frame.heading.hosts
    head, names = _common(hosts)
    wide = max(len(name) for name in names) + 3
    per_row = max(1, (frame.width - len(head) - 7) // wide)
    lines = -(-len(names) // per_row)
    if lines > room:
        return _nameless(frame, room)
    rows: list[Row] = []
    for line in range(lines):
        row: Row = [(f" {head}" if line == 0 else " " * (len(head) + 1), "dim")]
        for at in range(line * per_row, min((line + 1) * per_row, len(names))):
            row += [(f"{names[at]:>{wide - 1}}", "dim"), _cell(frame, hosts[at])]
        rows.append(row)
    return rows


def _nameless(frame: Frame, room: int) -> list[Row]:
    """The cells alone, in tens and in the order of the hostfile; ``+N`` tells of those left out."""
    hosts = frame.heading.hosts
    head, indent = f" {len(hosts)} hosts", " " * len(f" {len(hosts)} hosts")
    per_row = max(1, (frame.width - len(head) - 7) // 11) * 10
    lines = min(-(-len(hosts) // per_row), room)
    rows: list[Row] = []
    for line in range(lines):
        row: Row = [(head if line == 0 else indent, "dim")]
        for at in range(line * per_row, min((line + 1) * per_row, len(hosts))):
            row += [("  " if at % per_row == 0 else " ", "")] if at % 10 == 0 else []
            row.append(_cell(frame, hosts[at]))
        rows.append(row)
    hidden = len(hosts) - lines * per_row
    if hidden > 0:
        rows[-1].append((f" +{hidden}", "dim"))
    return rows


def _cell(frame: Frame, host: str) -> tuple[str, str]:
    how = frame.look(frame.state.hosts[host])
    load = frame.glance.loads.get(host)
    odd = frame.odd.get(host)
    lost = odd is not None and odd.what is Oddity.LINK_LOST
    if how in ("good", "odd") and not lost and load is not None and load.busy is not None:
        return frame.block(load.busy), STYLES[how]
    return frame.symbol(how), STYLES[how]


def _common(names: tuple[str, ...]) -> tuple[str, list[str]]:
    """What all names begin with, said once, and the rest of each: ``gpu``, 01 02 03."""
    first, last = min(names), max(names)
    length = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    while length and first[length - 1].isdigit():
        length -= 1
    return first[:length], [name[length:] for name in names]
