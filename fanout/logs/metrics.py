"""Metrics: parse step, step time, loss and speed from log lines; compute the loss curve and the time left.

It parses ``step 100/600 loss 3.24 tok/s 25938``, ``loss=3.24``, the dicts of the Hugging Face Trainer
(``{'loss': 3.24, 'epoch': 0.1}``), progress bars of tqdm and Lightning with their postfix, and Megatron's
``iteration 100/ 600 | lm loss: 3.24E+00``. A pattern of the user replaces these forms.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from fanout.logs.demux import LogLine, split_text

_NUMBER = r"([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|nan|inf)"
_GAP = r"\s{0,16}"  # bounded: otherwise a long line of blanks is slow
_LOSS = re.compile(rf"(?<![A-Za-z_/])(?:train[_/]|lm )?loss(?:_step)?['\"]?{_GAP}[:=]?{_GAP}{_NUMBER}", re.IGNORECASE)
_COUNT = r"(\d{1,15})(?!\d)"
_STEP = re.compile(
    rf"\b(?:global_)?(?:step|iter(?:ation)?)s?['\"]?{_GAP}[:=]?{_GAP}\[?{_GAP}{_COUNT}(?:{_GAP}(?:/|of){_GAP}{_COUNT})?",
    re.IGNORECASE,
)
_BAR = re.compile(rf"\d{{1,3}}%\|[^|]*\|{_GAP}{_COUNT}/{_COUNT} \[")
_COUNTER = re.compile(rf"(?i)\b(?:step|iter(?:ation)?|epoch|batch|update)s?\b\D{{0,12}}{_COUNT}|\b{_COUNT}/\d+ \[\d")
_STEP_TIME = re.compile(
    r"(?i)(?:(?:step|iter(?:ation)?|batch)[_ ]?time(?:_s|_sec)?|time/step|sec/step)\W{1,3}"
    r"(?P<time>\d{1,12}(?:\.\d{1,12})?)(?![\d.])\s?(?P<ms>ms)?"
    r"|(?<![\d.])(?P<rate>\d{1,12}(?:\.\d{1,12})?)\s?(?P<unit>s/it|it/s|ms/step|s/step)\b"
)
_TOKENS = r"tok(?:en)?s?(?:/s(?:ec)?|_per_second)"
_SPEED_AFTER = re.compile(rf"\b{_TOKENS}(?:/gpu)?['\"]?{_GAP}[:=]?{_GAP}(\d+(?:\.\d+)?)([kKM]?)", re.IGNORECASE)
_SPEED_BEFORE = re.compile(rf"(?<![\w.+-])(\d+(?:\.\d+)?){_GAP}([kKM]?){_GAP}{_TOKENS}", re.IGNORECASE)
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6}
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-:=+*#"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricReading:
    """Metrics of one line; a missing metric is None."""

    step: int | None = None
    total: int | None = None
    loss: float | None = None
    speed: float | None = None  # tokens a second
    others: Mapping[str, float] = field(default_factory=dict)  # further groups of the user's pattern


def parse_line(text: str, metric: re.Pattern[str] | None = None) -> MetricReading | None:
    """Parse the metrics of a line; return None if it has none. Lines without metrics are cheap."""
    if metric is not None:
        return _parse_with_pattern(metric, text)
    if not may_have_metrics(text):
        return None
    loss = _LOSS.search(text)
    step = _find_step(text)
    if step is None and loss is None:
        return None
    speed = _SPEED_AFTER.search(text) or _SPEED_BEFORE.search(text)
    return MetricReading(
        step=int(step[1]) if step else None,
        total=int(step[2]) if step and step[2] else None,
        loss=float(loss[1]) if loss else None,
        speed=float(speed[1]) * _SCALE[speed[2].lower()] if speed else None,
    )


def _find_step(text: str) -> re.Match[str] | None:
    return _BAR.search(text) or _STEP.search(text)


def parse_step(text: str) -> int | None:
    """Return the step number of a line, else that of an epoch, a batch or an update; None if it has none."""
    match = _find_step(text) or _COUNTER.search(text)
    return int(match[1] or match[2]) if match else None


def parse_step_time(text: str) -> float | None:
    """Return the seconds per step that a line states; None if it states none."""
    match = _STEP_TIME.search(text)
    if match is None:
        return None
    if match["time"]:
        return float(match["time"]) / (1000.0 if match["ms"] else 1.0)
    rate = float(match["rate"])
    return {"s/it": rate, "s/step": rate, "ms/step": rate / 1000.0}.get(
        match["unit"].lower(), 1.0 / rate if rate else None
    )


def may_have_metrics(text: str) -> bool:
    """Return whether the text may contain metrics; a fast test."""
    return "loss" in text or "Loss" in text or "step" in text or "%|" in text or "iter" in text


def _parse_with_pattern(metric: re.Pattern[str], text: str) -> MetricReading | None:
    """Parse the metrics with the user's pattern, by group names; a single unnamed group is the loss."""
    match = metric.search(text)
    if match is None:
        return None
    groups = match.groupdict() or {"loss": match[1]}
    try:
        values = {name: float(value.replace(",", "")) for name, value in groups.items() if value}
        step, total = (int(values[name]) if name in values else None for name in ("step", "total"))
    except (ValueError, OverflowError):
        return None  # the match is not a number
    if not values:
        return None
    others = {name: value for name, value in values.items() if name not in ("step", "total", "loss", "speed")}
    return MetricReading(step=step, total=total, loss=values.get("loss"), speed=values.get("speed"), others=others)


class MetricTracker:
    """Metrics of every host, from its first stream with metrics, and the progress of the run from the first host.

    Lines are parsed only on request, and then only the newest of each stream, because older values are never shown.
    """

    HELD = 8  # blocks of one stream that are kept until the next request
    NEWEST = 3  # readings that are parsed from them

    def __init__(self, metric: re.Pattern[str] | None = None) -> None:
        self._metric = metric
        self._followed_streams: dict[str, int] = {}  # host -> the stream that is followed
        self._held: dict[tuple[str, int], deque[tuple[float, LogLine]]] = {}
        self._readings: dict[str, MetricReading] = {}
        self._progress = RunProgress()

    def add_lines(self, log_lines: Sequence[LogLine], at: float) -> None:
        """Add lines, oldest first."""
        for block in log_lines:
            if self._is_skipped(block) or not self._may_have_metrics(block):
                continue
            key = (block.host, block.stream)
            if key not in self._held:
                self._held[key] = deque(maxlen=self.HELD)
            self._held[key].append((at, block))

    @property
    def host_readings(self) -> Mapping[str, MetricReading]:
        """Return the newest metrics of each host."""
        self._parse_held()
        return self._readings

    @property
    def run_progress(self) -> RunProgress:
        """Return the progress of the run, from the first host that printed metrics."""
        self._parse_held()
        return self._progress

    def _is_skipped(self, block: LogLine) -> bool:
        return self._followed_streams.get(block.host, block.stream) != block.stream and block.rank != 0

    def _may_have_metrics(self, block: LogLine) -> bool:
        """Return whether a block may hold metrics; the user's pattern may match line ends, so it is tested per line."""
        if self._metric is None:
            return may_have_metrics(block.text)
        return any(self._metric.search(text) for text in split_text(block))

    def _parse_held(self) -> None:
        """Parse the lines that arrived since the last request."""
        held, self._held = self._held, {}
        for (host, _), blocks in held.items():
            found = list(islice(self._iter_newest(blocks), self.NEWEST))
            if not found:
                continue
            block = blocks[-1][1]
            if host not in self._followed_streams or any(reading.loss is not None for _, reading in found):
                self._followed_streams[host] = block.stream
            for at, reading in reversed(found):
                self._add_reading(host, reading, at)

    def _iter_newest(self, blocks: Sequence[tuple[float, LogLine]]) -> Iterator[tuple[float, MetricReading]]:
        """Yield the metrics in these blocks with their times, newest first."""
        for at, block in reversed(blocks):
            if self._is_skipped(block):
                return  # another stream of this host already prints metrics
            for text in reversed(split_text(block)):
                reading = parse_line(text, self._metric)
                if reading is not None:
                    yield at, reading

    def add_bars(self, bars: Mapping[str, str], at: float) -> None:
        """Add the metrics of the current progress bar of each host."""
        self._parse_held()
        for host, text in bars.items():
            reading = parse_line(text, self._metric)
            if reading is not None:
                self._add_reading(host, reading, at)

    def _add_reading(self, host: str, reading: MetricReading, at: float) -> None:
        before = self._readings.get(host)
        if reading == before:
            return
        self._readings[host] = reading if before is None else _merge_readings(before, reading)
        if host == next(iter(self._readings)):
            self._progress.add_reading(reading, at)


def _merge_readings(before: MetricReading, now: MetricReading) -> MetricReading:
    """Merge two readings: a metric that is missing in the new one keeps its last value."""
    return replace(
        now,
        step=before.step if now.step is None else now.step,
        total=before.total if now.total is None else now.total,
        loss=before.loss if now.loss is None else now.loss,
        speed=before.speed if now.speed is None else now.speed,
        others={**before.others, **now.others},
    )


class RunProgress:
    """Progress of the run: the newest metrics, the loss so far (thinned), and the time left."""

    def __init__(self, *, keep: int = 256) -> None:
        self._keep = keep
        self._every = 1
        self._count = 0
        self._losses: list[float] = []
        self._steps: deque[tuple[float, int]] = deque(maxlen=64)
        self.step: int | None = None
        self.total: int | None = None
        self.loss: float | None = None
        self.speed: float | None = None
        self.others: dict[str, float] = {}

    def add_reading(self, reading: MetricReading, at: float) -> None:
        """Add a reading of the host that the progress follows."""
        if reading.step is not None:
            if self.step is not None and reading.step < self.step:
                self._steps.clear()  # a new epoch counts from the beginning
            self.step = reading.step
            self._steps.append((at, reading.step))
        self.total = reading.total or self.total
        self.speed = reading.speed or self.speed
        self.others.update(reading.others)
        if reading.loss is not None:
            self.loss = reading.loss
            if self._count % self._every == 0 and abs(reading.loss) < float("inf"):
                self._losses.append(reading.loss)
            self._count += 1
            if len(self._losses) >= self._keep:
                self._losses = self._losses[::2]
                self._every *= 2

    @property
    def seconds_left(self) -> float | None:
        """Estimate the seconds left from the last readings; None while that is impossible."""
        if self.total is None or len(self._steps) < 2:
            return None
        (then, before), (now, step) = self._steps[0], self._steps[-1]
        if step <= before or now <= then:
            return None
        return (self.total - step) * (now - then) / (step - before)

    def draw_loss_curve(self, width: int, *, unicode: bool = True) -> str:
        """Return the loss so far as a sparkline of at most ``width`` characters."""
        return draw_sparkline(self._losses, width, unicode=unicode)


def draw_sparkline(values: list[float], width: int, *, unicode: bool = True) -> str:
    """Return values as a row of blocks, scaled from minimum to maximum; few values give a shorter row."""
    blocks = BLOCKS if unicode else ASCII_BLOCKS
    if not values or width < 1:
        return ""
    if len(values) > width:
        values = [
            _compute_mean(values[at * len(values) // width : (at + 1) * len(values) // width]) for at in range(width)
        ]
    low, high = min(values), max(values)
    span = high - low
    if span <= 0:
        return blocks[0] * len(values)
    return "".join(blocks[min(7, int((value - low) / span * 8))] for value in values)


def _compute_mean(values: list[float]) -> float:
    return sum(values) / len(values)
