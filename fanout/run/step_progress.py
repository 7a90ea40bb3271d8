"""Step progress: the first and the highest training step that the log of an attempt reports, and when."""

from __future__ import annotations

import re
from collections.abc import Callable

from fanout.logs.line_splitter import LineBuffer, split_file_lines, split_last_lines
from fanout.logs.metric_line import parse_line
from fanout.logs.rank_prefix import split_rank_prefix
from fanout.model.events import Chunk, Event
from fanout.model.state import RunState
from fanout.text.sanitize import strip_escapes

LINES_READ = 8  # the last ones of a chunk: a flood has the same step many times
BYTES_READ = 4096  # at each end of a chunk, so that a flood without steps costs as little as one with steps


class StepProgress:
    """Event subscriber. ``first`` and ``last`` are steps, None until a line states one; times are of the launcher's clock."""

    broken = False

    def __init__(self, metric: re.Pattern[str] | None = None) -> None:
        """``metric`` is the pattern of --metric."""
        self._metric = metric
        self.on_first: Callable[[int], None] = lambda step: None
        self.first: int | None = None
        self.last: int | None = None
        self.first_at: float | None = None
        self.last_at: float | None = None
        self.loss: float | None = None  # the newest
        self.speed: float | None = None  # the newest, in tokens per second
        self._unread: dict[tuple[str, int], LineBuffer] = {}

    def __call__(self, event: Event, state: RunState) -> None:
        if not isinstance(event, Chunk):
            return
        block = self._unread.setdefault((event.host, event.stream), LineBuffer()).add_bytes(event.data)
        if not block:
            return
        for line in (*self._read_first_lines(block), *split_last_lines(block, LINES_READ, most=BYTES_READ)):
            found = parse_line(split_rank_prefix(strip_escapes(line))[0], self._metric)
            if found is not None and found.step is not None:
                self._add_step(found.step, event.at)
                self.loss = found.loss if found.loss is not None else self.loss
                self.speed = found.speed if found.speed is not None else self.speed

    def _read_first_lines(self, block: bytes) -> list[str]:
        """Return the lines at the beginning of the chunk until a step is known: they may have the first step of a burst."""
        return [] if self.first is not None else [text for _, text in split_file_lines(block[:BYTES_READ])]

    def _add_step(self, step: int, at: float) -> None:
        if self.first is None:
            self.first, self.first_at = step, at
            self.on_first(step)
        if self.last is None or step > self.last:
            self.last, self.last_at = step, at
