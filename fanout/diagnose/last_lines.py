"""Last lines of each stream, in bounded memory: the last output of a process and its last step."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fanout.logs import glog, rank_prefix
from fanout.logs.line_splitter import LineAssembler
from fanout.logs.metric_line import MetricReading, parse_step, read_metrics
from fanout.model.frozen import frozen
from fanout.text.sanitize import strip_escapes

KEEP_BYTES = 8192
QUOTED = 5  # lines of a quotation
_LONGEST = 300
_STEP_LINES = 20  # at the end of each stream of the run, in which a step is searched
_TORCHRUN = re.compile(r"torch/distributed/elastic|^={20}|^-{20}|elastic\.multiprocessing|^Setting OMP_NUM_THREADS")
_FRAMES = re.compile(rf"^frame #\d|^{glog.HEAD} [\w.]{{1,40}}:\d{{1,6}}\] ")  # c10d's warnings, and C++ stacks


@frozen
class StreamTail:
    """The end of one stream. ``split_lines`` are (rank or None, text); ``err``: it is the stderr of a rank."""

    host: str
    rank: int | None
    err: bool
    at: float
    lines: tuple[tuple[int | None, str], ...]


class TailBuffer:
    """Buffer of the end of a growing stream: raw bytes until the text is needed."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.at = 0.0

    def add_bytes(self, data: bytes, at: float) -> None:
        """Add bytes that arrived at a time."""
        self._data += data[-KEEP_BYTES:]
        self.at = at
        if len(self._data) > 2 * KEEP_BYTES:
            del self._data[:-KEEP_BYTES]

    def split_lines(self, rank: int | None) -> tuple[tuple[int | None, str], ...]:
        """Return the lines with their ranks; lines without a rank prefix belong to ``rank``."""
        out: list[tuple[int | None, str]] = []
        lines = LineAssembler(limit=2 * KEEP_BYTES)
        for line in (*lines.add_bytes(bytes(self._data)), *lines.take_rest()):
            body, speaker, _ = rank_prefix.split_rank_prefix(strip_escapes(line.text))
            if body.strip():
                out.append((rank if speaker is None else speaker, body.rstrip()[:_LONGEST]))
        return tuple(out)


def quote_last_lines(tails: Iterable[StreamTail], host: str, rank: int | None) -> tuple[str, ...]:
    """Return the last lines of a rank: of its stderr, else of its own stream, else lines without a rank prefix.

    If ``rank`` is None, return those of the host's main stream. torchrun's lines about failed processes are omitted.
    """
    here = [tail for tail in tails if tail.host == host]
    of_ranks = [text for tail in here if tail.rank is not None and not tail.err for _, text in tail.lines]
    choices = [
        [text for tail in here if tail.err and tail.rank == rank for _, text in tail.lines],
        [text for tail in here for who, text in tail.lines if who == rank],
        [text for tail in here if tail.rank is None for who, text in tail.lines if who is None],
        of_ranks if rank is None else [],
    ]
    for lines in choices[1 if rank is None else 0 :]:
        own = [line for line in _cut_torchrun_lines(lines) if not _FRAMES.match(line)]
        if own:
            return tuple(own[-QUOTED:])
    return ()


def find_last_step(tails: Iterable[StreamTail], host: str, ranks: Iterable[int] | None = None) -> int | None:
    """Return the last step of the ranks of a host from their last lines; None if no line has one."""
    wanted = None if ranks is None else {*ranks, None}
    found = [
        parse_step(text)
        for tail in tails
        if tail.host == host
        for who, text in tail.lines
        if wanted is None or who in wanted
    ]
    return max((number for number in found if number is not None), default=None)


def find_last_reading(tails: Iterable[StreamTail], hosts: Iterable[str], ranks: Iterable[int]) -> MetricReading | None:
    """Return the reading with the last step of these ranks of these hosts, else of any rank of the run."""
    named, wanted = set(hosts), set(ranks)
    streams = list(tails)
    own = [(who, text) for tail in streams if tail.host in named for who, text in tail.lines]
    lines = [text for who, text in own if not wanted or who in wanted]
    lines_of_run = (text for tail in streams for _, text in tail.lines[-_STEP_LINES:])
    return _find_highest_step(lines) or _find_highest_step(lines_of_run)


def _find_highest_step(lines: Iterable[str]) -> MetricReading | None:
    readings = [found for text in lines if (found := read_metrics(text)) is not None and found.step is not None]
    return max(readings, key=lambda reading: reading.step or 0, default=None)


def is_torchrun_line(line: str) -> bool:
    """Return whether the line looks like torchrun's output."""
    return bool(_TORCHRUN.search(line))


def _cut_torchrun_lines(lines: list[str]) -> list[str]:
    """Return the lines before torchrun's report of the failure."""
    for number, line in enumerate(lines):
        if _TORCHRUN.search(line) and number:
            return [each for each in lines[:number] if not each.startswith("Traceback (most recent")]
    return [line for line in lines if not _TORCHRUN.search(line)]
