"""Training figures in log lines: step, loss, speed; and the little curve and the time left that follow from them.

Understood are the ways in which training programs say them: ``step 100/600 loss 3.24 tok/s 25938``,
``loss=3.24``, ``{'loss': 3.24}``, and a tqdm bar with its postfix. A line without figures is no reading.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

_NUMBER = r"([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|nan|inf)"
_LOSS = re.compile(rf"\bloss['\"]?\s*[:=]?\s*{_NUMBER}", re.IGNORECASE)
_STEP = re.compile(
    r"\b(?:global_)?(?:step|iter(?:ation)?)s?['\"]?\s*[:=]?\s*\[?\s*(\d+)(?:\s*(?:/|of)\s*(\d+))?", re.IGNORECASE
)
_BAR = re.compile(r"\d{1,3}%\|[^|]*\|\s*(\d+)/(\d+) \[")
_TOKENS = r"tok(?:en)?s?(?:/s(?:ec)?|_per_second)"
_SPEED_AFTER = re.compile(rf"\b{_TOKENS}(?:/gpu)?['\"]?\s*[:=]?\s*(\d+(?:\.\d+)?)([kKM]?)", re.IGNORECASE)
_SPEED_BEFORE = re.compile(rf"(?<![\w.+-])(\d+(?:\.\d+)?)\s*([kKM]?)\s*{_TOKENS}", re.IGNORECASE)
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6}
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-:=+*#"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The figures of one line; None where it has none."""

    step: int | None = None
    total: int | None = None
    loss: float | None = None
    speed: float | None = None  # tokens a second


def read(text: str) -> Reading | None:
    """The figures in a line, or None. Cheap for lines that have none."""
    if "loss" not in text and "Loss" not in text and "step" not in text and "%|" not in text:
        return None
    loss = _LOSS.search(text)
    bar = _BAR.search(text)
    step = bar or _STEP.search(text)
    if step is None:
        return None
    speed = _SPEED_AFTER.search(text) or _SPEED_BEFORE.search(text)
    return Reading(
        step=int(step[1]),
        total=int(step[2]) if step[2] else None,
        loss=float(loss[1]) if loss else None,
        speed=float(speed[1]) * _SCALE[speed[2].lower()] if speed else None,
    )


class Progress:
    """The run's course by its readings: the newest figures, the loss so far (thinned), and when it will end."""

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

    def add(self, reading: Reading, at: float) -> None:
        """A new reading of the one host that the curve follows."""
        if reading.step is not None:
            if self.step is not None and reading.step < self.step:
                self._steps.clear()  # a new epoch counts from the beginning
            self.step = reading.step
            self._steps.append((at, reading.step))
        self.total = reading.total or self.total
        self.speed = reading.speed or self.speed
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
        """By the pace of the last readings; None while it cannot be told."""
        if self.total is None or len(self._steps) < 2:
            return None
        (then, before), (now, step) = self._steps[0], self._steps[-1]
        if step <= before or now <= then:
            return None
        return (self.total - step) * (now - then) / (step - before)

    def curve(self, width: int, *, unicode: bool = True) -> str:
        """The loss so far in ``width`` characters."""
        return sparkline(self._losses, width, unicode=unicode)


def sparkline(values: list[float], width: int, *, unicode: bool = True) -> str:
    """Values as a row of blocks from their least to their greatest; fewer values than ``width`` give a shorter row."""
    blocks = BLOCKS if unicode else ASCII_BLOCKS
    if not values or width < 1:
        return ""
    if len(values) > width:
        values = [_mean(values[at * len(values) // width : (at + 1) * len(values) // width]) for at in range(width)]
    low, high = min(values), max(values)
    span = high - low
    if span <= 0:
        return blocks[0] * len(values)
    return "".join(blocks[min(7, int((value - low) / span * 8))] for value in values)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
