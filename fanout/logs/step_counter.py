"""Step counter: make one growing number from the steps of a stream, over epochs, and without bars of evaluations.

The Trainer of transformers draws the bar of an evaluation without a name, inside its training. Such a bar has another
total and no loss.
"""

from __future__ import annotations

from fanout.logs.metric_line import MetricReading


class StepCounter:
    """Counter of the steps of one stream."""

    def __init__(self) -> None:
        self.total: int | None = None  # of the steps that are counted
        self.passes = 0  # finished passes over bars that do not name their epoch
        self._step = -1
        self._before = 0  # steps of the finished passes
        self._nested_total: int | None = None

    def count_step(self, reading: MetricReading) -> int | None:
        """Return the number of steps so far; None if the reading has no step of the training."""
        if reading.step is None:
            if reading.loss is not None and self._nested_total is not None:
                self.total = self._nested_total = None  # the bar that moves beside a loss is that of the training
            return None
        if self._is_nested(reading):
            self._nested_total = reading.total
            return None
        self._nested_total = None
        if reading.counts_epoch and reading.total is not None and reading.epoch is not None:
            self.total, self._step = reading.total, reading.step
            return int(reading.epoch) * reading.total + reading.step
        self._count_pass(reading)
        self.total, self._step = reading.total or self.total, reading.step
        return self._before + reading.step

    def _is_nested(self, reading: MetricReading) -> bool:
        """Return whether this is another bar inside a training that has not ended."""
        if not reading.is_bar or reading.loss is not None or reading.counts_epoch or self.total is None:
            return False
        return reading.total != self.total and self._step < self.total

    def _count_pass(self, reading: MetricReading) -> None:
        """Count a finished pass if the steps begin again; other smaller steps are those of a restart."""
        if reading.step is None or reading.step >= self._step:
            return
        if self.total is not None and reading.total == self.total and self._step >= self.total - 1:
            self._before += self.total
            self.passes += 1
        else:
            self._before = self.passes = 0
