"""Who is slow: step times of every rank, as far as its lines carry steps, against those of the others.

Ranks that wait for each other in every step are all as slow as the slowest. What tells them apart is a duration that
a line states (``step_time 0.41``, ``1.2 s/it``), or who comes to each step last. Memory is bounded, and of a flood only
the end of a chunk is read.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from statistics import median

from fanout.diagnose import shapes
from fanout.events import Chunk, Event, StreamOpened
from fanout.state import RunState

FACTOR = 1.3  # so many times the others' median is slow
LATE_SHARE = 0.3  # of a step: so much later than the first, on the whole
LAST_SHARE = 0.7  # of all steps: so often the last
LEAST_STEPS = 10
_STEPS_KEPT = 64
_TAIL, _LINES = 2048, 8
_FLOOD_BYTES, _FLOOD_SECONDS = 8192, 0.25
_STATED = re.compile(
    r"(?i)(?:(?:step|iter(?:ation)?|batch)[_ ]?time(?:_s|_sec)?|time/step|sec/step)\W{1,3}(?P<time>\d+(?:\.\d+)?)\s?(?P<ms>ms)?"
    r"|(?P<rate>\d+(?:\.\d+)?)\s?(?P<unit>s/it|it/s|ms/step|s/step)\b"
)
_Who = tuple[str, int | None]  # (host, rank): rank None where its lines are not told apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """One rank (or a host whose ranks share a stream) that is slower than the others, and how that shows."""

    host: str
    rank: int | None
    text: str

    def __str__(self) -> str:
        who = self.host if self.rank is None else f"rank {self.rank} on {self.host}"
        return f"{who} {self.text}"


@dataclass(slots=True)
class _Rank:
    first: tuple[float, int] | None = None
    last: tuple[float, int] | None = None
    stated: list[float] = field(default_factory=list)
    late: float = 0.0
    lasts: int = 0
    steps: int = 0

    @property
    def interval(self) -> float | None:
        """Mean seconds between two steps."""
        if self.first is None or self.last is None or self.last[1] - self.first[1] < LEAST_STEPS:
            return None
        return (self.last[0] - self.first[0]) / (self.last[1] - self.first[1])


class Pace:
    """A subscriber; ``slow`` is asked for at the end."""

    broken = False

    def __init__(self) -> None:
        self._ranks: dict[_Who, _Rank] = {}
        self._names: dict[tuple[str, int], int | None] = {}
        self._read: dict[tuple[str, int], float] = {}
        self._came: OrderedDict[int, dict[_Who, float]] = OrderedDict()

    def __call__(self, event: Event, state: RunState) -> None:
        if isinstance(event, StreamOpened):
            self._names[event.host, event.stream] = shapes.rank_of(event.name)
        elif isinstance(event, Chunk):
            self._chunk(event)

    def slow(self) -> tuple[Slow, ...]:
        """Those that are; the slowest first."""
        stated = {who: median(rank.stated) for who, rank in self._ranks.items() if len(rank.stated) >= LEAST_STEPS}
        found = _above(stated, "says that a step takes it")
        intervals = {who: rank.interval for who, rank in self._ranks.items() if rank.interval is not None}
        found |= {who: slow for who, slow in _above(intervals, "takes").items() if who not in found}
        found |= {who: slow for who, slow in self._late(intervals).items() if who not in found}
        return tuple(found.values())

    def _chunk(self, event: Chunk) -> None:
        key = event.host, event.stream
        flood = len(event.data) > _FLOOD_BYTES
        if flood and event.at - self._read.get(key, 0.0) < _FLOOD_SECONDS:
            return
        self._read[key] = event.at
        lines = event.data[-_TAIL:].replace(b"\r", b"\n").split(b"\n")
        for line in lines[-_LINES:]:
            text, rank, _ = shapes.speaker(shapes.plain(line.decode("utf-8", "replace")))
            step = shapes.progress(text)
            if step is not None:
                who = (event.host, self._names.get(key) if rank is None else rank)
                self._step(who, event.at, step, text)

    def _step(self, who: _Who, at: float, step: int, text: str) -> None:
        rank = self._ranks.setdefault(who, _Rank())
        if rank.last is not None and step <= rank.last[1]:
            return  # an epoch beside a step, or it began anew
        rank.first = rank.first or (at, step)
        rank.last = (at, step)
        seconds = stated(text)
        if seconds is not None:
            rank.stated = [*rank.stated[-31:], seconds]
        came = self._came.setdefault(step, {})
        came[who] = at
        if len(self._came) > _STEPS_KEPT:
            self._settle(self._came.popitem(last=False)[1])

    def _settle(self, came: dict[_Who, float]) -> None:
        """A step that all have made, or never will: who was late, who was last?"""
        if len(came) < 3:
            return
        begin, last = min(came.values()), max(came.items(), key=lambda item: item[1])[0]
        for who, at in came.items():
            rank = self._ranks[who]
            rank.steps, rank.late = rank.steps + 1, rank.late + at - begin
            rank.lasts += who == last

    def _late(self, intervals: dict[_Who, float]) -> dict[_Who, Slow]:
        for came in [self._came.popitem(last=False)[1] for _ in list(self._came)]:
            self._settle(came)
        if not intervals:
            return {}
        usual = median(intervals.values())
        out = {}
        for who, rank in self._ranks.items():
            mean = rank.late / rank.steps if rank.steps else 0.0
            if rank.steps >= LEAST_STEPS and rank.lasts >= LAST_SHARE * rank.steps and mean >= LATE_SHARE * usual:
                text = f"comes last to {rank.lasts} of {rank.steps} steps, on average {mean:.2g} s after the first ({usual:.2g} s a step)"
                out[who] = Slow(host=who[0], rank=who[1], text=text)
        return out


def _above(times: dict[_Who, float], verb: str) -> dict[_Who, Slow]:
    """Those of at least three whose time is far above the median of the others."""
    out = {}
    for who, seconds in sorted(times.items(), key=lambda item: -item[1]):
        others = [each for one, each in times.items() if one != who]
        usual = median(others) if len(others) > 1 else 0.0
        if usual and seconds >= FACTOR * usual:
            text = f"{verb} {seconds:.2g} s a step, {seconds / usual:.1f} times as long as the others ({usual:.2g} s)"
            out[who] = Slow(host=who[0], rank=who[1], text=text)
    return out if len(out) * 2 < len(times) else {}


def stated(text: str) -> float | None:
    """The seconds that a line says a step took."""
    match = _STATED.search(text)
    if match is None:
        return None
    if match["time"]:
        return float(match["time"]) / (1000.0 if match["ms"] else 1.0)
    rate = float(match["rate"])
    return {"s/it": rate, "s/step": rate, "ms/step": rate / 1000.0}.get(
        match["unit"].lower(), 1.0 / rate if rate else None
    )
