"""Rank steps: when one rank reached its steps, and the paces of many ranks over the same time.

Ranks print at different intervals, and each is quiet during evaluations and checkpoints. So paces are compared only over
the time in which all of them printed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from fanout.logs.run_progress import is_stale
from fanout.logs.step_counter import StepCounter

LEAST_STEPS = 10
BURST_SHARE = 0.2  # of the steps: with more that come together, a program writes its lines in bursts
_STATED_KEPT, _POINTS_KEPT = 32, 128
_POINT_SECONDS = 0.5  # between two points
_WINDOW_SECONDS = 30.0
_TRIES = 8
_Who = TypeVar("_Who")


@dataclass(slots=True)
class RankSteps:
    """Steps of one rank: thinned points of time and step, and the durations that its lines state."""

    counter: StepCounter = field(default_factory=StepCounter)
    points: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_POINTS_KEPT))
    stated: deque[float] = field(default_factory=lambda: deque(maxlen=_STATED_KEPT))
    newest: tuple[float, int] = (0.0, -1)
    began: tuple[float, int] = (0.0, 0)
    steps: int = 0  # that it printed
    bursts: int = 0  # steps that came together with the step before

    def add_step(self, at: float, step: int) -> None:
        """Add a step that is larger than all before."""
        if not self.steps:
            self.began = (at, step)
        self.steps += 1
        self.bursts += at == self.newest[0]
        self.newest = (at, step)
        if not self.points or at - self.points[-1][0] >= _POINT_SECONDS:
            self.points.append(self.newest)

    @property
    def writes_in_bursts(self) -> bool:
        """Return whether the arrival of its lines has no meaning."""
        return self.bursts > BURST_SHARE * self.steps

    @property
    def gap(self) -> float:
        """Return the mean seconds between two lines with a step."""
        return (self.newest[0] - self.began[0]) / max(1, self.steps - 1)

    @property
    def interval(self) -> float | None:
        """Return the mean seconds per step over all points; None if there are too few steps."""
        if not self.points or self.newest[1] - self.points[0][1] < LEAST_STEPS:
            return None
        return (self.newest[0] - self.points[0][0]) / (self.newest[1] - self.points[0][1])

    def estimate_step(self, at: float) -> float:
        """Return its step at this time, from the points before and after it."""
        points = [*self.points, self.newest]
        after = bisect_left(points, at, key=lambda point: point[0])
        if after in (0, len(points)):
            return float(points[min(after, len(points) - 1)][1])
        (then, before), (now, step) = points[after - 1], points[after]
        return before + (step - before) * (at - then) / (now - then) if now > then else float(step)


def find_common_time(ranks: Iterable[RankSteps]) -> float:
    """Return the last time for which all these ranks have a step."""
    return min((rank.newest[0] for rank in ranks), default=0.0)


def measure_paces(ranks: Mapping[_Who, RankSteps]) -> dict[_Who, float]:
    """Return the seconds per step of each rank that prints now, all over the same time."""
    now = max((rank.newest[0] for rank in ranks.values()), default=0.0)
    fresh = {
        who: rank
        for who, rank in ranks.items()
        if rank.interval is not None and not is_stale(now - rank.newest[0], rank.gap)
    }
    for _ in range(_TRIES):
        if not fresh:
            break
        paces = _measure_common_paces(fresh)
        if paces:
            return paces
        oldest = find_common_time(fresh.values())  # that rank prints too rarely to be compared
        fresh = {who: rank for who, rank in fresh.items() if rank.newest[0] > oldest}
    return {}


def _measure_common_paces(ranks: Mapping[_Who, RankSteps]) -> dict[_Who, float]:
    """Return the paces over the last seconds in which all ranks printed, or else over all of that time; {} if it is short."""
    end, begin = find_common_time(ranks.values()), max(rank.points[0][0] for rank in ranks.values())
    for start in (max(begin, end - _WINDOW_SECONDS), begin):
        steps = {who: rank.estimate_step(end) - rank.estimate_step(start) for who, rank in ranks.items()}
        if end > start and max(steps.values()) >= LEAST_STEPS:
            return {who: (end - start) / count for who, count in steps.items() if count > 0}
    return {}
