"""Log excerpt of bounded size: the start, the end, warnings and errors, and the last lines of each stream.

Equal lines of many streams within 0.3 s give one entry. A gap counts the lines that are left out at its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from fanout.logs.demux import LogLine
from fanout.logs.levels import classify_text
from fanout.model.frozen import frozen
from fanout.text.sanitize import sanitize_line

HEAD, TAIL, NOTABLE, EACH = 1000, 8000, 1500, 8
LONGEST = 2000  # characters of one line
WINDOW_SECONDS = 0.3
FANOUT = -1  # the stream number of fanout's status messages


@dataclass(slots=True, eq=False)
class ExcerptEntry:
    """Line of an excerpt, and the numbers of the streams that printed it, in order of time."""

    number: int
    at: float
    text: str
    level: str
    speakers: list[int] = field(default_factory=list)


@frozen
class Gap:
    """Number of lines that are not in the excerpt at this place."""

    lines: int


class LogExcerpt:
    """Collector of the excerpt. It gets every line, and returns the kept lines in order."""

    def __init__(self, *, head: int = HEAD, tail: int = TAIL, notable: int = NOTABLE, each: int = EACH) -> None:
        self.lines = 0  # the number of all lines, of all streams
        self._count = 0
        self._head_size, self._notable_size, self._each_size = head, notable, each
        self._head: list[ExcerptEntry] = []
        self._tail: deque[ExcerptEntry] = deque(maxlen=tail)
        self._notable: list[ExcerptEntry] = []
        self._notable_last: deque[ExcerptEntry] = deque(maxlen=notable)
        self._each: dict[int, deque[ExcerptEntry]] = {}
        self._open: dict[str, ExcerptEntry] = {}
        self._last: dict[int, int] = {}  # stream -> number of its last entry: a later line never joins an earlier entry

    def add_line(self, speaker: int, log_line: LogLine, at: float) -> str:
        """Add a line and return its level."""
        text = sanitize_line(log_line.text, colour=False)
        more = log_line.more + max(0, len(text) - LONGEST)
        text = text[:LONGEST] + (f"…(+{more} B)" if more else "")
        return self._add_entry(speaker, text, classify_text(text), at, join=log_line.kind == "line").level

    def add_message(self, text: str, level: str, at: float) -> None:
        """Add a status message of fanout."""
        self._add_entry(FANOUT, text, level if level in ("warning", "error") else "", at, join=False)

    def iter_entries(self) -> Iterator[ExcerptEntry | Gap]:
        """Yield the kept lines in order, with a Gap wherever lines are missing."""
        kept = {entry.number: entry for entry in self._iter_kept()}
        before = 0
        for number in sorted(kept):
            if number > before + 1:
                yield Gap(lines=number - before - 1)
            yield kept[number]
            before = number
        if self._count > before:
            yield Gap(lines=self._count - before)

    def _add_entry(self, speaker: int, text: str, level: str, at: float, *, join: bool) -> ExcerptEntry:
        self.lines += 1
        same = self._open.get(text) if join else None
        if same is not None and at - same.at <= WINDOW_SECONDS and self._last.get(speaker, 0) < same.number:
            self._last[speaker] = same.number
            same.speakers.append(speaker)
            self._get_stream_tail(speaker).append(same)
            return same
        self._count += 1
        entry = ExcerptEntry(self._count, at, text, level, [speaker])
        self._last[speaker] = self._count
        if join:
            self._allow_joins(entry)
        self._store_entry(entry)
        self._get_stream_tail(speaker).append(entry)
        return entry

    def _allow_joins(self, entry: ExcerptEntry) -> None:
        """Let equal lines of other streams join this entry; forget old entries when there are too many."""
        self._open[entry.text] = entry
        if len(self._open) > 4096:
            self._open = {text: one for text, one in self._open.items() if entry.at - one.at <= WINDOW_SECONDS}
            for text in list(islice(self._open, max(0, len(self._open) - 2048))):
                del self._open[text]

    def _store_entry(self, entry: ExcerptEntry) -> None:
        if len(self._head) < self._head_size:
            self._head.append(entry)
            return
        self._tail.append(entry)
        if entry.level or entry.speakers[0] == FANOUT:
            (self._notable if len(self._notable) < self._notable_size else self._notable_last).append(entry)

    def _get_stream_tail(self, speaker: int) -> deque[ExcerptEntry]:
        if speaker not in self._each:
            self._each[speaker] = deque(maxlen=self._each_size)
        return self._each[speaker]

    def _iter_kept(self) -> Iterable[ExcerptEntry]:
        yield from self._head
        yield from self._notable
        yield from self._notable_last
        for own in self._each.values():
            yield from own
        yield from self._tail
