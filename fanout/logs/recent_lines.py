"""Recent lines: the newest lines of a run in bounded memory, so that a new filter can show what it matches at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from fanout.logs.demux import LogLine, split_block

MAX_CHARACTERS = 1 << 20


class RecentLines:
    """Newest lines, before any filter. A block of lines is kept as one value, so that a flood costs little."""

    def __init__(self, most: int = MAX_CHARACTERS) -> None:
        self._most = most
        self._blocks: deque[LogLine] = deque()
        self._size = 0

    def add_lines(self, log_lines: Iterable[LogLine]) -> None:
        """Add lines, oldest first."""
        for log_line in log_lines:
            if log_line.kind != "bar":
                self._blocks.append(log_line)
                self._size += len(log_line.text) + 1
        while self._size > self._most and len(self._blocks) > 1:
            self._size -= len(self._blocks.popleft().text) + 1

    def iter_newest(self) -> Iterator[LogLine]:
        """Yield single lines, newest first."""
        for block in reversed(self._blocks):
            yield from reversed(split_block(block))
