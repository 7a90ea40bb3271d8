"""Metrics of a run: follow the newest metrics of each host, from its first stream that has any."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from fanout.logs.demux import LogLine, split_text
from fanout.logs.metric_line import MetricReading, may_have_metrics, parse_line
from fanout.logs.run_progress import RunProgress


class MetricTracker:
    """Metrics of every host, from its first stream with metrics, and the progress of the run.

    Lines are parsed only on request, and then only the newest of each stream, because older values are never shown.
    """

    HELD = 8  # blocks of one stream that are kept until the next request
    NEWEST = 3  # readings that are parsed from them

    def __init__(self, metric: re.Pattern[str] | None = None, hosts: Sequence[str] = ()) -> None:
        self._metric = metric
        self._followed_streams: dict[str, int] = {}  # host -> the stream that is followed
        self._held: dict[tuple[str, int], deque[tuple[float, LogLine]]] = {}
        self._newest: dict[str, MetricReading] = {}  # as they were read
        self._readings: dict[str, MetricReading] = {}  # with the earlier values of missing metrics
        self._progress = RunProgress(hosts)

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
        """Return the progress of the run."""
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
        if reading == self._newest.get(host):
            return
        self._newest[host] = reading
        if not self._progress.add_reading(reading, at, host):
            return
        before = self._readings.get(host)
        self._readings[host] = reading if before is None else _merge_readings(before, reading)


def _merge_readings(before: MetricReading, now: MetricReading) -> MetricReading:
    """Merge two readings: a metric that is missing in the new one keeps its last value."""
    return replace(
        now,
        step=before.step if now.step is None else now.step,
        is_bar=(before if now.step is None else now).is_bar,
        counts_epoch=(before if now.step is None else now).counts_epoch,
        total=before.total if now.total is None else now.total,
        loss=before.loss if now.loss is None else now.loss,
        speed=before.speed if now.speed is None else now.speed,
        samples=before.samples if now.samples is None else now.samples,
        step_time=before.step_time if now.step_time is None else now.step_time,
        epoch=before.epoch if now.epoch is None else now.epoch,
        epochs=before.epochs if now.epochs is None else now.epochs,
        others={**before.others, **now.others},
    )
