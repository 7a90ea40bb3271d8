"""All streams of a run as lines with their speakers: what the plain, live and JSON views have in common.

Bytes go in as Chunks, ``Say`` values come out: whole lines, beginnings of lines that waited half a second, and bars.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from fanout.events import Chunk, Event, Gone, Lost, StreamOpened
from fanout.views.base import label
from fanout.views.lines import LIMIT, Line, Lines

SETTLE_SECONDS = 0.5
BAR_SECONDS = 30.0
_PERCENT = re.compile(r"(\d{1,3})%")
_RANK = re.compile(r"rank (\d{1,9})\b")

Kind = Literal["line", "rest", "bar"]


class Say(NamedTuple):
    """What one speaker says: a ``line``, the ``rest`` of a line whose beginning was said, or how a ``bar`` stands."""

    host: str
    stream: int
    speaker: str
    kind: Kind
    text: str
    more: int = 0
    rank: int = -1  # the global rank whose stream this is; -1: the host's own
    level: str = ""  # error or warning, where somebody judged it
    voices: int = 1  # how many said this line; ``host`` is "" where they are of several hosts
    ranges: tuple[str, ...] = ()  # what stood in each N of the text, where they said it with different numbers
    many: int = 1  # of a block: so many lines of one speaker at once, with line ends between them


def texts(say: Say) -> list[str]:
    """The lines of a block; one line as it is, also a traceback, which has line ends in it."""
    return say.text.split("\n") if say.many > 1 else [say.text]


def apart(say: Say) -> list[Say]:
    """A block as its lines."""
    if say.many == 1:
        return [say]
    host, stream, speaker, kind, _, more, rank, level = say[:8]
    return [Say(host, stream, speaker, kind, line, more, rank, level) for line in texts(say)]


class Streams:
    """The assemblers of all streams; text in ``Say`` is as the host wrote it, not made harmless.

    With ``blocks``, lines that came together may stay together.
    """

    def __init__(self, hosts: Iterable[str] = (), *, limit: int = LIMIT, blocks: bool = False) -> None:
        self._limit = limit
        self._blocks = blocks
        self.parts: dict[str, set[str]] = {}  # host -> names of its further streams
        self.width = max(map(len, hosts), default=0)  # of the longest speaker so far
        self._lines: dict[tuple[str, int], Lines] = {}
        self._labels: dict[tuple[str, int], str] = {}
        self._ranks: dict[tuple[str, int], int] = {}
        self._bars: dict[tuple[str, int], tuple[int, float]] = {}  # decile shown last, and when
        self._settled = float("-inf")

    def take(self, event: Event) -> list[Say]:
        """What there is to say after this event; call it with every event, because time passes in all of them."""
        says: list[Say] = []
        match event:
            case Chunk():
                says += self._feed(event)
            case StreamOpened():
                self._name((event.host, event.stream), event.name)
            case Gone() | Lost():  # not Exited: bytes may still come after it
                says += self._finish(event.host)
            case _:
                pass
        if event.at - self._settled >= SETTLE_SECONDS:
            self._settled = event.at
            says += self._settle(event.at)
        return says

    def finish(self) -> list[Say]:
        """The run is over: everything that is left, in order of the hosts' first words."""
        return [say for host in dict.fromkeys(host for host, _ in self._lines) for say in self._finish(host)]

    def bars(self) -> dict[str, str]:
        """Host -> the moving line of its first stream that has one."""
        found: dict[str, str] = {}
        for (host, _), lines in self._lines.items():
            if host not in found and (text := lines.moving):
                found[host] = text
        return found

    def _feed(self, chunk: Chunk) -> list[Say]:
        key = (chunk.host, chunk.stream)
        lines = self._lines.get(key)
        if lines is None:
            lines = self._lines[key] = Lines(limit=self._limit, blocks=self._blocks)
        return self._says(key, lines.feed(chunk.data))

    def _finish(self, host: str) -> list[Say]:
        says: list[Say] = []
        for key, lines in self._lines.items():
            if key[0] == host:
                says += self._says(key, lines.finish())
                self._bars.pop(key, None)
        return says

    def _settle(self, now: float) -> list[Say]:
        says: list[Say] = []
        for key, lines in self._lines.items():
            if lines.waiting:
                says += self._says(key, lines.settle())
                says += self._bar(key, lines.moving, now)
        return says

    def _bar(self, key: tuple[str, int], text: str, now: float) -> list[Say]:
        """A bar is worth a line when it enters a new tenth, or after half a minute."""
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
        return [Say(key[0], key[1], self._label(key), "bar", text, 0, self._ranks.get(key, -1))]

    def _says(self, key: tuple[str, int], lines: list[Line]) -> list[Say]:
        if not lines:
            return []
        (host, stream), speaker, rank = key, self._label(key), self._ranks.get(key, -1)
        return [
            Say(host, stream, speaker, "rest" if rest else "line", text, more, rank, many=many)
            for text, rest, more, many in lines
        ]

    def _label(self, key: tuple[str, int]) -> str:
        return self._labels[key] if key in self._labels else self._name(key, "" if key[1] == 0 else f"stream {key[1]}")

    def _name(self, key: tuple[str, int], name: str) -> str:
        self._labels[key] = label(key[0], name)
        rank = _RANK.match(name)
        if rank is not None:
            self._ranks[key] = int(rank[1])
        if name:
            self.parts.setdefault(key[0], set()).add(self._labels[key].removeprefix(f"{key[0]}:"))
        self.width = max(self.width, len(self._labels[key]))
        return self._labels[key]
