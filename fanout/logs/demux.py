"""Stream demultiplexer: turn the chunks of all streams into labelled log lines, for all views.

The input is Chunk events. The output is whole lines, the beginnings of lines that have not ended after half a second, and
progress bars.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from fanout.logs.line_splitter import LIMIT, LineAssembler, SplitLine
from fanout.logs.rank_prefix import parse_stream_rank
from fanout.model.events import Chunk, CleanedUp, Event, HostLost, StreamOpened
from fanout.text.sanitize import sanitize_line

SETTLE_SECONDS = 0.5
BAR_SECONDS = 30.0
_PERCENT = re.compile(r"(\d{1,3})%")

Kind = Literal["line", "rest", "bar"]


class LogLine(NamedTuple):
    """Log line of one stream: a ``line``, the ``rest`` of a line that was given out early, or a progress ``bar``."""

    host: str
    stream: int
    speaker: str
    kind: Kind
    text: str
    more: int = 0
    rank: int = -1  # the global rank of the stream; -1: the main stream of the host
    level: str = ""  # error or warning, once the line is classified
    voices: int = 1  # the number of streams that printed this line; ``host`` is "" if they are on several hosts
    group: str = ""  # most or all streams that printed this line: ``7 of 8 ranks (not 5)``
    many: int = 1  # the number of lines, if this is a block of lines of one stream, with line ends between them


def split_text(log_line: LogLine) -> list[str]:
    """Return the lines of a block; a single entry stays whole, also a traceback with line ends in it."""
    return log_line.text.split("\n") if log_line.many > 1 else [log_line.text]


def split_block(log_line: LogLine) -> list[LogLine]:
    """Split a block into its lines."""
    if log_line.many == 1:
        return [log_line]
    host, stream, speaker, kind, _, more, rank, level = log_line[:8]
    return [LogLine(host, stream, speaker, kind, line, more, rank, level) for line in split_text(log_line)]


class StreamDemultiplexer:
    """Line assemblers of all streams. The text of the lines is not sanitised.

    With ``blocks``, lines that arrived together may stay together in one block.
    """

    def __init__(self, hosts: Iterable[str] = (), *, limit: int = LIMIT, blocks: bool = False) -> None:
        self._limit = limit
        self._blocks = blocks
        self.parts: dict[str, set[str]] = {}  # host -> names of its further streams
        self.width = max(map(len, hosts), default=0)  # of the longest label so far
        self._lines: dict[tuple[str, int], LineAssembler] = {}
        self._labels: dict[tuple[str, int], str] = {}
        self._ranks: dict[tuple[str, int], int] = {}
        self._bars: dict[tuple[str, int], tuple[int, float]] = {}  # the tenth shown last, and when
        self._settled = float("-inf")

    def process_event(self, event: Event) -> list[LogLine]:
        """Return the lines that are ready after this event. Call it with every event, because events carry the time."""
        log_lines: list[LogLine] = []
        match event:
            case Chunk():
                log_lines += self._add_chunk(event)
            case StreamOpened():
                self._set_label((event.host, event.stream), event.name)
            case CleanedUp() | HostLost():  # not Exited: bytes may still come after it
                log_lines += self._take_host_rest(event.host)
            case _:
                pass
        if event.at - self._settled >= SETTLE_SECONDS:
            self._settled = event.at
            log_lines += self._take_partial(event.at)
        return log_lines

    def take_rest(self) -> list[LogLine]:
        """Return all remaining lines at the end of the run, in the order of the hosts' first output."""
        return [
            log_line
            for host in dict.fromkeys(host for host, _ in self._lines)
            for log_line in self._take_host_rest(host)
        ]

    def get_bars(self) -> dict[str, str]:
        """Return host -> the progress bar of its first stream that has one."""
        found: dict[str, str] = {}
        for (host, _), lines in self._lines.items():
            if host not in found and (text := lines.bar_text):
                found[host] = text
        return found

    def _add_chunk(self, chunk: Chunk) -> list[LogLine]:
        key = (chunk.host, chunk.stream)
        lines = self._lines.get(key)
        if lines is None:
            lines = self._lines[key] = LineAssembler(limit=self._limit, blocks=self._blocks)
        return self._to_log_lines(key, lines.add_bytes(chunk.data))

    def _take_host_rest(self, host: str) -> list[LogLine]:
        log_lines: list[LogLine] = []
        for key, lines in self._lines.items():
            if key[0] == host:
                log_lines += self._to_log_lines(key, lines.take_rest())
                self._bars.pop(key, None)
        return log_lines

    def _take_partial(self, now: float) -> list[LogLine]:
        log_lines: list[LogLine] = []
        for key, lines in self._lines.items():
            if lines.has_pending:
                log_lines += self._to_log_lines(key, lines.take_partial())
                log_lines += self._build_bar_line(key, lines.bar_text, now)
        return log_lines

    def _build_bar_line(self, key: tuple[str, int], text: str, now: float) -> list[LogLine]:
        """Return a line for a progress bar if it entered a new tenth, or after 30 seconds."""
        if not text:
            self._bars.pop(key, None)
            return []
        percent = _PERCENT.search(text)
        decile = int(percent[1]) // 10 if percent else -1
        if key not in self._bars:
            self._bars[key] = (max(decile, 0), now)
            return []
        before, shown_at = self._bars[key]
        if now - shown_at < BAR_SECONDS and decile in (before, -1):
            return []
        self._bars[key] = (decile, now)
        return [LogLine(key[0], key[1], self._get_label(key), "bar", text, 0, self._ranks.get(key, -1))]

    def _to_log_lines(self, key: tuple[str, int], lines: list[SplitLine]) -> list[LogLine]:
        if not lines:
            return []
        (host, stream), speaker, rank = key, self._get_label(key), self._ranks.get(key, -1)
        return [
            LogLine(host, stream, speaker, "rest" if rest else "line", text, more, rank, many=many)
            for text, rest, more, many in lines
        ]

    def _get_label(self, key: tuple[str, int]) -> str:
        return (
            self._labels[key]
            if key in self._labels
            else self._set_label(key, "" if key[1] == 0 else f"stream {key[1]}")
        )

    def _set_label(self, key: tuple[str, int], name: str) -> str:
        self._labels[key] = format_label(key[0], name)
        rank = parse_stream_rank(name)
        if rank is not None:
            self._ranks[key] = rank
        if name:
            self.parts.setdefault(key[0], set()).add(self._labels[key].removeprefix(f"{key[0]}:"))
        self.width = max(self.width, len(self._labels[key]))
        return self._labels[key]


def format_label(host: str, stream: str) -> str:
    """Return the label of a stream: ``gpu01``, ``gpu01:5`` for a rank, ``gpu01:name`` for any other stream."""
    if not stream:
        return host
    name = sanitize_line(stream, colour=False)
    return (
        f"{host}:{name.removeprefix('rank ').replace(' err', '', 1)}" if name.startswith("rank ") else f"{host}:{name}"
    )
