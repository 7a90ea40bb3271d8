"""Timeline of a run for the HTML page: times of each host and stream, metrics, and host load, in bounded memory.

Times are in seconds since the start of the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from fanout.logs import metric_line
from fanout.logs.rank_prefix import parse_stream_rank
from fanout.logs.step_counter import StepCounter
from fanout.model.actions import Go, Stop
from fanout.model.events import (
    ActionSent,
    Chunk,
    CleanedUp,
    Connected,
    ConnectFailed,
    Connecting,
    Disconnected,
    Event,
    Exited,
    Heartbeat,
    HostEvent,
    HostLost,
    Prepared,
    Refused,
    Released,
    Started,
    StreamOpened,
)

Point = tuple[float, "float | None"]  # (time, value)
POINTS = 400  # of one curve
STEPS = 60  # step marks on the bar of one stream
READINGS_A_SECOND = 10.0
_ONCE: Mapping[type[HostEvent], str] = {
    Connecting: "connecting", Connected: "connected", Prepared: "prepared", Started: "started", Exited: "exited", CleanedUp: "cleaned_up",
    Released: "released", ConnectFailed: "connect_failed", Refused: "refused", HostLost: "lost",
}  # fmt: skip


class Curve:
    """Points in order of time. When there are too many, every second point is dropped.

    The value of a point is None if it is not a finite number: a loss of NaN is a finding, not a gap.
    """

    __slots__ = ("_count", "_every", "_most", "newest", "points")

    def __init__(self, most: int = POINTS) -> None:
        self.points: list[Point] = []
        self._most, self._every, self._count = most, 1, 0
        self.newest: Point | None = None

    def add_point(self, at: float, value: float) -> None:
        self.newest = (at, value if abs(value) < float("inf") else None)
        if self._count % self._every == 0:
            self.points.append(self.newest)
        self._count += 1
        if len(self.points) >= self._most:
            self.points = self.points[::2]
            self._every *= 2

    def get_points(self) -> list[Point]:
        """Return the points, always including the newest."""
        rest = self.newest is not None and self.points[-1] != self.newest
        return self.points + ([self.newest] if rest and self.newest else [])


@dataclass(slots=True)
class HostTimeline:
    """Timeline of one host: the first time of each event (``times``), and the times without a connection (``down``)."""

    name: str
    times: dict[str, float] = field(default_factory=dict)
    down: list[list[float]] = field(default_factory=list)
    load: dict[str, Curve] = field(default_factory=dict)


@dataclass(slots=True)
class StreamTimeline:
    """Timeline of one stream: the times of its first and last bytes, its amount of output, and its metrics."""

    host: int
    name: str
    first: float | None = None
    last: float | None = None
    bytes: int = 0
    lines: int = 0
    errors: int = 0
    warnings: int = 0
    read_at: float = float("-inf")
    counter: StepCounter = field(default_factory=StepCounter)
    steps: Curve = field(default_factory=lambda: Curve(STEPS))
    loss: Curve = field(default_factory=Curve)
    speed: Curve = field(default_factory=Curve)
    others: dict[str, Curve] = field(default_factory=dict)

    @property
    def rank(self) -> int | None:
        """Return the global rank that writes this stream, None if the name has none."""
        return parse_stream_rank(self.name)

    def add_metrics(self, text: str, at: float, metric: re.Pattern[str] | None = None) -> None:
        """Add the metrics of a line; in a flood, only some lines are parsed."""
        if at - self.read_at < 1 / READINGS_A_SECOND:
            return
        reading = metric_line.parse_line(text, metric)
        if reading is None or (reading.step is not None and self.counter.count_step(reading) is None):
            return
        self.read_at = at
        if reading.step is not None:
            self.steps.add_point(at, reading.step)
        for curve, value in ((self.loss, reading.loss), (self.speed, reading.speed)):
            if value is not None:
                curve.add_point(at, value)
        for name, value in reading.others.items():
            self.others.setdefault(name, Curve()).add_point(at, value)


class RunTimeline:
    """Timeline of a run, built from its events."""

    def __init__(self, hosts: tuple[str, ...], began_at: float) -> None:
        self._began = began_at
        self._index = {name: number for number, name in enumerate(hosts)}
        self._streams: dict[tuple[str, int], int] = {}
        self.hosts = [HostTimeline(name) for name in hosts]
        self.streams: list[StreamTimeline] = []
        self.now = 0.0

    def to_run_seconds(self, at: float) -> float:
        """Convert a time of the launcher's clock to seconds since the start of the run."""
        return round(max(0.0, at - self._began), 3)

    def get_stream_index(self, host: str, stream: int, name: str | None = None) -> int:
        """Return the index of a stream in ``streams``; add the stream if it is new."""
        key = (host, stream)
        if key not in self._streams:
            self._streams[key] = len(self.streams)
            shown = name if name is not None else "" if stream == 0 else f"stream {stream}"
            self.streams.append(StreamTimeline(self._index[host], shown))
        return self._streams[key]

    def add_event(self, event: Event) -> None:
        at = self.now = max(self.now, self.to_run_seconds(event.at))
        if isinstance(event, ActionSent):
            self._add_action(event, at)
        if not isinstance(event, HostEvent):
            return
        host = self.hosts[self._index[event.host]]
        if type(event) in _ONCE:
            host.times.setdefault(_ONCE[type(event)], at)
        match event:
            case Heartbeat():
                for name, value in iter_load_values(event.load):
                    host.load.setdefault(name, Curve()).add_point(at, value)
            case Disconnected():
                host.down.append([at])
            case Connected():
                _end_outage(host, at)
            case StreamOpened():
                self.get_stream_index(event.host, event.stream, event.name)
            case Chunk():
                stream = self.streams[self.get_stream_index(event.host, event.stream)]
                stream.first, stream.last = at if stream.first is None else stream.first, at
                stream.bytes += len(event.data)
            case _:
                pass

    def _add_action(self, event: ActionSent, at: float) -> None:
        times = self.hosts[self._index[event.action.host]].times
        if isinstance(event.action, Go):
            times.setdefault("go", at)
        elif isinstance(event.action, Stop):
            times.setdefault("stop", at)


def _end_outage(host: HostTimeline, at: float) -> None:
    if host.down and len(host.down[-1]) == 1:
        host.down[-1].append(at)


#: The curves of a host's load, and their units.
LOAD_UNITS: Mapping[str, str] = {
    "GPU": "%", "GPU memory": "%", "GPU temperature": "°C", "GPU power": "W", "CPU": "%", "memory": "%",
}  # fmt: skip


def iter_load_values(load: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the values of a load report by the names of UNITS: for GPUs the mean, the hottest, and the total power."""
    cpu, memory, gpus = load.get("cpu"), load.get("memory"), load.get("gpus")
    if _is_number(cpu):
        yield "CPU", float(cpu)
    if isinstance(memory, (list, tuple)) and len(memory) == 2 and all(map(_is_number, memory)) and memory[1] > 0:
        yield "memory", round(100.0 * memory[0] / memory[1], 2)
    cards = [card for card in gpus if isinstance(card, Mapping)] if isinstance(gpus, (list, tuple)) else []
    for name, values, of in (
        ("GPU", _get_numbers(cards, "util"), _compute_mean),
        ("GPU memory", [100.0 * used / total for used, total in _iter_memory_pairs(cards)], _compute_mean),
        ("GPU temperature", _get_numbers(cards, "temp"), max),
        ("GPU power", _get_numbers(cards, "watts"), sum),
    ):
        if values:
            yield name, round(of(values), 2)


def _get_numbers(cards: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    return [float(card[key]) for card in cards if _is_number(card.get(key))]


def _iter_memory_pairs(cards: Iterable[Mapping[str, Any]]) -> Iterator[tuple[float, float]]:
    for card in cards:
        used, total = card.get("used"), card.get("total")
        if _is_number(used) and _is_number(total) and total:
            yield float(used), float(total)


def _compute_mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
