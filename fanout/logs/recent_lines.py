"""Recent lines: the newest lines of a run in bounded memory, so that a new filter can show what it matches at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from fanout.logs.demux import LogLine, split_block

MAX_CHARACTERS = 1 << 19
BLOCK_CHARACTERS = 1 << 12  # of a block of lines: its last ones


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
                kept = _shorten_block(log_line) if log_line.many > 1 else log_line
                self._blocks.append(kept)
                self._size += len(kept.text) + 1
        while self._size > self._most and len(self._blocks) > 1:
            self._size -= len(self._blocks.popleft().text) + 1

    def iter_newest(self) -> Iterator[LogLine]:
        """Yield single lines, newest first."""
        for block in reversed(self._blocks):
            yield from reversed(split_block(block))


def _shorten_block(block: LogLine) -> LogLine:
    """Return the block with its last lines only."""
    if len(block.text) <= BLOCK_CHARACTERS:
        return block
    end = block.text[-BLOCK_CHARACTERS:]
    text = end.partition("\n")[2] or end
    return block._replace(text=text, many=text.count("\n") + 1)
