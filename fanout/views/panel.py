"""The block under the log, as rows of styled text: what it says, at any width and height; pure, without rich.

A title row; a row a host, or, where there are too many for the room, a grid of all hosts and rows for the odd ones;
a row with step, loss and time left. Symbols carry the meaning, colour only repeats it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from fanout.state import HostState, Phase, RunState
from fanout.views.base import Heading
from fanout.views.metrics import Progress, Reading
from fanout.views.narrate import how_it_ended, was_stopped
from fanout.views.sanitise import sentence
from fanout.views.table import cut
from fanout.views.units import age, clock, seconds, short, size

Row = list[tuple[str, str]]  # (text, style); styles are words that rich knows

GRID_FROM = 25
SILENT_SECONDS = 30.0
HOST_COLOURS = ("cyan", "green", "magenta", "bright_blue", "yellow", "bright_cyan", "bright_green", "bright_magenta")
_STYLE = {
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


def colour_of(host: str) -> str:
    """A host's colour: the same in every run, and never red, which means an error."""
    return HOST_COLOURS[zlib.crc32(host.encode()) % len(HOST_COLOURS)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What the live view knows beyond the state: lines of each host, its newest figures, and the run's course."""

    lines: Mapping[str, int]
    readings: Mapping[str, Reading]
    progress: Progress
    skipped: int = 0


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


def panel(
    heading: Heading, state: RunState, glance: Glance, *, width: int, height: int, unicode: bool = True
) -> list[Row]:
    """At most a third of ``height`` rows, none longer than ``width`` (the caller crops)."""
    room = max(2, height // 3)
    course = _course(glance, width, unicode=unicode)
    rows = [_title(heading, state, width, unicode=unicode)]
    left = room - 1 - (1 if course else 0)
    hosts = state.all
    if len(hosts) < GRID_FROM and len(hosts) <= left:
        rows += [_host_row(heading, host, state, glance, width, unicode=unicode) for host in hosts]
    else:
        rows += _grid_and_odd(heading, state, glance, width, max(1, left), unicode=unicode)
    if course:
        rows.append(course)
    return rows[:room]


def headline(state: RunState) -> str:
    """The run's state in a word."""
    if state.over:
        return "OVER"
    if state.interrupts or state.first_stop is not None:
        return "STOPPING"
    if state.failures:
        return "FAILING"
    phases = {host.phase for host in state.hosts.values()}
    if phases <= {Phase.WAITING, Phase.DIALLING}:
        return "CONNECTING"
    if phases & {Phase.EXITED, Phase.GONE, Phase.FORGOTTEN}:
        return "ENDING"
    return "RUNNING" if phases == {Phase.RUNNING} else "STARTING"


def _title(heading: Heading, state: RunState, width: int, *, unicode: bool) -> Row:
    word = headline(state)
    number = len(heading.hosts)
    head = f" fanout  run {heading.run_id}  "
    tail = f"  {number} host{'s' if number != 1 else ''}  {clock(state.now - state.began_at)}  "
    task = sentence(heading.title)
    room = width - len(head) - len(tail) - len(word) - 1
    if len(task) > room:
        task = cut(task, max(0, room), ellipsis="…" if unicode else "~")
    style = "bold red" if word in ("FAILING", "STOPPING") else "bold green" if word == "RUNNING" else "bold"
    return [(head, "bold"), (task, ""), (tail, "dim"), (word, style)]


def _host_row(heading: Heading, host: HostState, state: RunState, glance: Glance, width: int, *, unicode: bool) -> Row:
    how = mood(host, state)
    symbol = (_SYMBOLS if unicode else _ASCII)[how]
    name_width = min(24, max(len(name) for name in heading.hosts))
    row: Row = [(f" {symbol} ", _STYLE[how]), (f"{host.name[:name_width]:<{name_width}}", colour_of(host.name))]
    node, slots = heading.ranks.get(host.name, (None, None))
    digits = len(str(len(heading.hosts) - 1))
    if node is not None:
        row.append((f"  node {node:<{digits}}" if width >= 100 else f"  {node:>{digits}}", "dim"))
    if slots is not None and width >= 100:
        row.append((f"  {slots} rank{'s' if slots != 1 else ''}", "dim"))
    words = what_it_does(host, state)
    row.append((f"  {words:<10}", _STYLE[how] if how in ("bad", "odd") else ""))
    if len(words) <= 10:
        for text, style in _figures(host, state, glance, width):
            if sum(len(part) for part, _ in row) + len(text) >= width:
                break
            row.append((text, style))
    return row


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


def _figures(host: HostState, state: RunState, glance: Glance, width: int) -> Row:
    """What there is to say in figures, the most telling first: a narrow terminal leaves the last ones out."""
    row: Row = []
    reading = glance.readings.get(host.name)
    if reading is not None:
        row.append((f"  step {reading.step}".ljust(13), ""))
        row.append((f"  loss {reading.loss:.4f}".ljust(14) if reading.loss is not None else " " * 14, ""))
    if host.last_output_at is not None and host.exit is None:
        quiet = state.now - host.last_output_at
        what = "last line" if width >= 100 else "last"
        row.append((f"  {what} {age(quiet):>6}", "yellow" if quiet > SILENT_SECONDS else "dim"))
    if host.received:
        row.append((f"  {short(glance.lines.get(host.name, 0)):>5} lines", "dim"))
        row.append((f"  {size(host.bytes):>7}", "dim"))
    return row


def _grid_and_odd(
    heading: Heading, state: RunState, glance: Glance, width: int, room: int, *, unicode: bool
) -> list[Row]:
    """All hosts as cells, and below them rows for the worst; the grid takes what it needs, but not all."""
    odd = sorted(
        (host for host in state.all if mood(host, state) in ("bad", "odd")),
        key=lambda host: (mood(host, state) != "odd", state.order.index(host.name)),
    )
    head, names = _common(heading.hosts)
    cell = max(len(name) for name in names) + 3
    per_row = max(1, (width - len(head) - 7) // cell)
    needed = -(-len(names) // per_row)
    lines = min(needed, max(1, room - min(len(odd), 3)))
    symbols = _SYMBOLS if unicode else _ASCII
    rows: list[Row] = []
    for line in range(lines):
        row: Row = [(f" {head}" if line == 0 else " " * (len(head) + 1), "dim")]
        for at in range(line * per_row, min((line + 1) * per_row, len(names))):
            how = mood(state.hosts[heading.hosts[at]], state)
            row += [(f"{names[at]:>{cell - 1}}", "dim"), (symbols[how], _STYLE[how])]
        rows.append(row)
    hidden = len(names) - lines * per_row
    if hidden > 0:
        rows[-1].append((f" +{hidden}", "dim"))
    rows += [_host_row(heading, host, state, glance, width, unicode=unicode) for host in odd[: room - lines]]
    return rows


def _common(names: tuple[str, ...]) -> tuple[str, list[str]]:
    """What all names begin with, said once, and the rest of each: ``gpu``, 01 02 03."""
    first, last = min(names), max(names)
    length = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    while length and first[length - 1].isdigit():
        length -= 1
    return first[:length], [name[length:] for name in names]


def _course(glance: Glance, width: int, *, unicode: bool) -> Row | None:
    progress = glance.progress
    row: Row = []
    if progress.loss is not None:
        curve = progress.curve(max(8, min(32, width // 5)), unicode=unicode)
        row += [(f" loss {progress.loss:.4f} ", "bold"), (curve, "cyan")]
    if progress.step is not None:
        of = f"/{progress.total}" if progress.total else ""
        row.append((f"  step {progress.step}{of}", ""))
        if progress.total:
            row.append((f" {100 * progress.step // progress.total}%", ""))
    if progress.speed is not None:
        row.append((f"  {short(progress.speed)} tok/s", ""))
    left = progress.seconds_left
    if left is not None and left > 0:
        row.append((f"  {seconds(left)} left", "dim"))
    return row or None
