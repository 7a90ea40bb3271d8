"""Of a flood, lets through to the screen what a person could still look at; the files have all of it.

To make lines of bytes, to fold and to colour them costs a hundred times what it costs to keep them. So beyond about
thirteen thousand lines a second the middle of a chunk is left out and its lines are counted. What is let through always
begins and ends where lines do: the rest of a line that had begun, and the newest.
"""

from __future__ import annotations

from dataclasses import replace

from fanout.events import Chunk, Event

BYTES_A_SECOND = 1_600_000.0
A_LINE = 50  # what a line costs beyond its bytes
NEWEST = 512  # bytes of a chunk that are let through in any case


class Valve:
    """Give it every event; ``skipped`` counts lines since it was last set to 0."""

    def __init__(self, rate: float = BYTES_A_SECOND) -> None:
        self._rate = rate
        self._room = rate / 2
        self._at = float("-inf")
        self.skipped = 0

    def let(self, event: Event) -> Event:
        """The event, or a Chunk with less in it: for the eye alone, because its offset counts the bytes left out too."""
        if not isinstance(event, Chunk):
            return event
        if event.at > self._at:
            self._room = min(self._rate / 2, self._room + (event.at - self._at) * self._rate)
            self._at = event.at
        data = event.data
        cost = len(data) + A_LINE * data.count(b"\n")
        if cost > self._room:
            data = self._cut(data)
        self._room = max(0.0, self._room - min(cost, len(data) + A_LINE * data.count(b"\n")))
        return event if data is event.data else replace(event, data=data)

    def _cut(self, data: bytes) -> bytes:
        first, last = data.find(b"\n") + 1, data.rfind(b"\n") + 1
        begin = max(first, last - NEWEST - int(self._room / 3))
        begin = data.find(b"\n", begin - 1) + 1 if begin > first else first
        if begin <= first:
            return data
        self.skipped += data.count(b"\n", first, begin)
        return data[:first] + data[begin:]
