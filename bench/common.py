"""Measurement: contenders, one timed run, interleaved runs, and the table of results.

Machines are noisy, so the contenders take turns, and each result is a median and a minimum.
CPU time is that of the program and of the children that it reaped: the cost on the launching machine.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 180.0

#: Print a unique line, so that no view folds it with the line of another host.
TRAIN_SH = 'echo "bench-line-$$-$RANDOM$RANDOM$RANDOM"\n'
_LINE = re.compile(rb"bench-line-\d+-\d+")


class ContenderFailed(Exception):
    """Failure of a contender; the text describes what happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Program of a comparison. ``absent`` is the reason why it cannot take part; ``to`` is a file for its output.

    With ``screen``, its output goes to a terminal of 120 columns that never blocks.
    """

    name: str
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    shows: str = ""  # text that its output must contain
    to: str = ""
    screen: bool = False
    absent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Result of one run in seconds: to the end, to the last host's first line (0: not measured), and CPU time."""

    wall: float
    first: float
    cpu: float


Start = Callable[[Contender], "subprocess.Popen[bytes]"]


def run_timed(contender: Contender, start: Start, lines: int) -> Sample:
    """Run a contender once. Raises ContenderFailed unless it exits 0 and prints ``lines`` different lines of TRAIN_SH."""
    began = time.monotonic()
    child = start(contender)
    guard = threading.Timer(LIMIT_SECONDS, child.kill)
    guard.start()
    try:
        output, first = _read_output(child, lines)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    finally:
        guard.cancel()
    wall = time.monotonic() - began
    last = output.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
    if child.returncode:
        how = f"took over {LIMIT_SECONDS:g} s" if child.returncode == -signal.SIGKILL else f"exited {child.returncode}"
        raise ContenderFailed(f"it {how}; its last line: {last[0][:200]}")
    if lines and not first:
        raise ContenderFailed(
            f"only {len(set(_LINE.findall(output)))} of {lines} hosts printed a line; its last line: {last[0][:200]}"
        )
    if contender.shows.encode() not in output:
        raise ContenderFailed(f"it did not print {contender.shows!r}; its last line: {last[0][:200]}")
    return Sample(wall=wall, first=first - began if first else 0.0, cpu=usage.ru_utime + usage.ru_stime)


def _read_output(child: subprocess.Popen[bytes], lines: int) -> tuple[bytes, float]:
    """Return all output, and the time at which ``lines`` different lines had arrived (0.0: never)."""
    if child.stdout is None:
        return b"", 0.0
    output, first = bytearray(), 0.0
    while data := read_some(child.stdout.fileno()):
        output += data
        if lines and not first and len(set(_LINE.findall(output))) >= lines:
            first = time.monotonic()
    child.stdout.close()
    return bytes(output), first


def read_some(descriptor: int) -> bytes:
    """Read available bytes; return b"" at the end, also at the end of a terminal (EIO)."""
    try:
        return os.read(descriptor, 1 << 16)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""


def read_cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that a process has used until now."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


Results = dict[str, "list[Sample] | str"]


def run_interleaved(contenders: Sequence[Contender], start: Start, *, lines: int = 0, repeat: int = 5) -> Results:
    """Run all contenders in turn, ``repeat`` times; an absent or failed contender gets its reason instead of samples."""
    results: Results = {contender.name: contender.absent or [] for contender in contenders}
    for _ in range(repeat):
        for contender in contenders:
            samples = results[contender.name]
            if isinstance(samples, str):
                continue
            try:
                samples.append(run_timed(contender, start, lines))
            except ContenderFailed as error:
                results[contender.name] = str(error)
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Table of the medians of one comparison."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        lines = [
            f"**{self.title}**",
            "",
            _format_row(self.columns),
            _format_row(["---"] + ["---:"] * (len(self.columns) - 1)),
        ]
        lines += [_format_row(row) for row in self.rows]
        lines += [f"\n{note}" for note in self.notes]
        return "\n".join(lines) + "\n"


def _format_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def build_table(title: str, results: Results, *, base: str, notes: Sequence[str] = ()) -> Table:
    """Return the table of all times and their ratios to ``base``; a note names each missing contender."""
    present = {name: samples for name, samples in results.items() if not isinstance(samples, str)}
    absent = [f"Left out: {name}: {why}" for name, why in results.items() if isinstance(why, str)]
    if base not in present:
        return Table(title=title, columns=("",), rows=(), notes=tuple(absent))
    seen = any(sample.first for samples in present.values() for sample in samples)
    kinds = {"to the last host's first line": _get_first} if seen else {}
    kinds |= {"to the end": _get_wall, "client CPU": _get_cpu}
    columns = [""]
    for kind in kinds:
        columns += [f"{kind}, s", "×"]
    rows = []
    for name, samples in present.items():
        row = [name]
        for of in kinds.values():
            mine, theirs = [of(sample) for sample in samples], [of(sample) for sample in present[base]]
            ratio = statistics.median(mine) / statistics.median(theirs)
            row += [f"{statistics.median(mine):.3g} ({min(mine):.3g})", f"{ratio:.2g}"]
        rows.append(tuple(row))
    count = len(present[base])
    method = f"Median (minimum) of {count} interleaved runs; × is the median over that of {base}."
    return Table(title=title, columns=tuple(columns), rows=tuple(rows), notes=(method, *notes, *absent))


def _get_first(sample: Sample) -> float:
    return sample.first


def _get_wall(sample: Sample) -> float:
    return sample.wall


def _get_cpu(sample: Sample) -> float:
    return sample.cpu
