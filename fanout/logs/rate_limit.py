"""Rate limit for floods of log lines on the screen; the log files keep every byte.

To split, fold and colour lines costs a hundred times as much as to store them. So beyond about 13,000 lines a second, the
middle of a chunk is dropped and its lines are counted. In a lasting flood the limit is a tenth of that rate, because no
person can read it. The kept parts begin and end at line ends: the rest of a begun line, and the newest lines. The first
error in the dropped part is kept too.
"""

from __future__ import annotations

from dataclasses import replace

from fanout.logs.prefilter import digest_chunk
from fanout.model.events import Chunk, Event

BYTES_A_SECOND = 1_600_000.0
FLOODED = 0.1  # of that rate
LINE_COST = 50  # the cost of a line beyond its bytes
NEWEST = 512  # bytes of a chunk that always pass, except in a lasting flood
ERROR_MARKS = (b"Traceback (most", b"Error:", b"ERROR")
ERROR_BYTES = 4096  # from the start of the line with the error


class RateLimiter:
    """Rate limiter. It gets every event. ``skipped`` counts dropped lines since it was last set to 0."""

    def __init__(self, rate: float = BYTES_A_SECOND) -> None:
        self._rate = rate
        self._budget = rate / 2
        self._excess = 0.0  # bytes that came beyond the rate
        self._at = float("-inf")
        self._flooded = False
        self.skipped = 0

    def limit_event(self, event: Event) -> Event:
        """Return the event, or a shortened Chunk. Use that only for display: its offset no longer matches its bytes."""
        if not isinstance(event, Chunk):
            return event
        data = event.data
        lines = digest_chunk(data).ends
        cost = len(data) + LINE_COST * lines
        self._update_budget(event.at, cost)
        if cost > self._budget:
            data = self._cut_chunk(data)
            kept = data.count(b"\n")
            self.skipped += lines - kept
            cost = min(cost, len(data) + LINE_COST * kept)
        self._budget = max(0.0, self._budget - cost)
        return event if data is event.data else replace(event, data=data)

    def _update_budget(self, now: float, cost: int) -> None:
        """Update the room for the time that passed and the new ``cost``, and detect a lasting flood."""
        passed = max(0.0, now - self._at) if self._at > float("-inf") else 0.0
        self._at = max(self._at, now)
        self._excess = min(2 * self._rate, max(0.0, self._excess - passed * self._rate) + cost)
        if self._excess > self._rate:
            self._flooded = True
        elif self._excess <= cost:  # the earlier excess is used up
            self._flooded = False
        rate = self._rate * FLOODED if self._flooded else self._rate
        self._budget = min(rate / 2, self._budget + passed * rate)

    def _cut_chunk(self, data: bytes) -> bytes:
        first, last = data.find(b"\n") + 1, data.rfind(b"\n") + 1
        newest = int(self._budget / 3) + (0 if self._flooded else NEWEST)
        begin = max(first, last - newest)
        begin = data.find(b"\n", begin - 1) + 1 if begin > first else first
        begin = max(first, min(begin, data.rfind(b"\n", 0, max(0, last - 1)) + 1))  # the last line always
        if begin <= first:
            return data
        start, end = _find_error(data, first, begin)
        return data[:first] + data[start:end] + data[begin:]


def _find_error(data: bytes, first: int, begin: int) -> tuple[int, int]:
    """Return the range of the first error between ``first`` and ``begin``; (begin, begin) if there is none."""
    if not any(word in digest_chunk(data).text for word in ERROR_MARKS):
        return begin, begin
    found = min((at for word in ERROR_MARKS if (at := data.find(word, first, begin)) >= 0), default=-1)
    if found < 0:
        return begin, begin
    start = data.rfind(b"\n", first - 1, found) + 1
    end = data.find(b"\n", min(begin, start + ERROR_BYTES) - 1) + 1
    return start, min(begin, end)
