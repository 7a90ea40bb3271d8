"""Run progress: the newest metrics of a run, its loss curve, and the time left by the slowest host and rank."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

from fanout.logs.metric_line import MetricReading
from fanout.logs.step_counter import StepCounter
from fanout.model.frozen import frozen

KEPT_LOSSES = 256
KEPT_STEPS = 64  # with their times, of each host
LEAST_READINGS = 3  # for an estimate: the first steps are slow
STALE_SECONDS = 20.0  # an estimate is dropped if no step follows for this time, and for STALE_GAPS usual gaps
STALE_GAPS = 5.0
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-:=+*#"


class TimeLeft(NamedTuple):
    """Estimate of the time left, in seconds; with an epoch, it is the time left in this epoch."""

    seconds: float
    epoch: int | None = None


class RankPace(NamedTuple):
    """Pace of one rank: its last step, when it came, and the seconds per step."""

    at: float
    step: int
    seconds: float


@frozen
class RankProgress:
    """Progress of all ranks whose lines have steps: the steps of each host's slowest and fastest rank, and the paces."""

    steps: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    paces: Sequence[RankPace] = ()


class StepHistory:
    """Recent steps of one host with their times."""

    def __init__(self) -> None:
        self.newest: MetricReading | None = None  # the newest reading with a step
        self.counter = StepCounter()
        self._steps: deque[tuple[float, int]] = deque(maxlen=KEPT_STEPS)
        self._stated: tuple[float, float] | None = None  # (when, seconds left), as a line states it

    def add_reading(self, reading: MetricReading, at: float) -> bool:
        """Add a reading; return False if its step is not one of the training."""
        count = self.counter.count_step(reading)
        if (
            reading.seconds_left is not None
            and not reading.counts_epoch
            and (count is not None or reading.step is None)
        ):
            self._stated = (at, reading.seconds_left)
        if reading.step is None:
            return True
        if count is None:
            return False
        self.newest = reading
        if self._steps and count < self._steps[-1][1]:
            self._steps.clear()
        if not self._steps or count > self._steps[-1][1]:
            self._steps.append((at, count))
        return True

    def estimate_end(self, now: float) -> tuple[float, int | None] | None:
        """Return when the host will reach its last step, and the epoch if only its end is known; None if unknown."""
        if self.newest is None or len(self._steps) < LEAST_READINGS or self.counter.passes:
            return self._get_stated_end(now)
        (then, first), (at, last) = self._steps[0], self._steps[-1]
        goal = self._find_goal(self.newest)
        if goal is None:
            return self._get_stated_end(now)
        if is_stale(now - at, (at - then) / (len(self._steps) - 1)) or at <= then:
            return None
        return at + max(0, goal[0] - last) * (at - then) / (last - first), goal[1]

    def _find_goal(self, newest: MetricReading) -> tuple[int, int | None] | None:
        """Return the count at the end of the run, else that at the end of the epoch with the epoch."""
        total = self.counter.total
        if total is None:
            return None
        if not newest.counts_epoch or newest.epoch is None:
            return total, None
        if newest.epochs is not None:
            return (newest.epochs + 1) * total, None  # right for epochs from 0 to N-1 of N-1, and from 1 to N of N
        return (int(newest.epoch) + 1) * total, int(newest.epoch)

    def _get_stated_end(self, now: float) -> tuple[float, int | None] | None:
        if self._stated is None or now - self._stated[0] > max(STALE_SECONDS, 0.1 * self._stated[1]):
            return None
        return sum(self._stated), None


def is_stale(age: float, gap: float) -> bool:
    """Return whether a step is too old for an estimate, by the usual time between steps: an evaluation or a hang."""
    return age > max(STALE_SECONDS, STALE_GAPS * gap)


class RunProgress:
    """Progress of the run: the newest metrics, the loss so far (thinned), and the time left."""

    def __init__(self, hosts: Sequence[str] = (), *, keep: int = KEPT_LOSSES) -> None:
        self._order = {host: number for number, host in enumerate(hosts)}
        self._keep = keep
        self._every = 1
        self._count = 0
        self._losses: list[float] = []
        self._hosts: dict[str, StepHistory] = {}
        self.loss: float | None = None
        self.loss_host = ""  # the first host of the hostfile that printed a loss
        self.speed: float | None = None
        self.samples: float | None = None
        self.others: dict[str, float] = {}

    def add_reading(self, reading: MetricReading, at: float, host: str = "") -> bool:
        """Add a reading of a host; return False if its step is not one of the training."""
        if not self._hosts.setdefault(host, StepHistory()).add_reading(reading, at):
            return False
        self.others.update(reading.others)
        if reading.loss is not None and self._precedes(host):
            if host != self.loss_host:
                self._losses, self._count, self._every = [], 0, 1
            self.loss, self.loss_host = reading.loss, host
            self._add_loss(reading.loss)
        if host == self.loss_host or self.loss is None:
            self.speed = reading.speed if reading.speed is not None else self.speed
            self.samples = reading.samples if reading.samples is not None else self.samples
        return True

    def _precedes(self, host: str) -> bool:
        """Return whether the loss of this host is shown rather than that of the host shown so far."""
        return self.loss is None or self._order.get(host, 0) <= self._order.get(self.loss_host, 0)

    def _add_loss(self, loss: float) -> None:
        if self._count % self._every == 0 and abs(loss) < float("inf"):
            self._losses.append(loss)
        self._count += 1
        if len(self._losses) >= self._keep:
            self._losses = self._losses[::2]
            self._every *= 2

    @property
    def newest(self) -> MetricReading | None:
        """Return the reading with the largest step; one with a total comes first."""
        found = [each.newest for each in self._hosts.values() if each.newest is not None]
        return max(found, key=lambda each: (each.total is not None, each.epoch or 0.0, each.step or 0), default=None)

    @property
    def step(self) -> int | None:
        return self.newest.step if self.newest is not None else None

    @property
    def total(self) -> int | None:
        totals = [each.counter.total for each in self._hosts.values() if each.newest is not None]
        return next((total for total in totals if total is not None), None)

    def estimate_time_left(self, now: float, ranks: RankProgress | None = None) -> TimeLeft | None:
        """Return the time left until the slowest host and rank have ended; None while no estimate means anything."""
        ends = [found for each in self._hosts.values() if (found := each.estimate_end(now)) is not None]
        if not ends:
            return None
        latest, epoch = max(ends, key=lambda each: each[0])
        total = self.total
        if epoch is None and total is not None and ranks is not None and not self._counts_epochs:
            paces = [pace for pace in ranks.paces if not is_stale(now - pace.at, pace.seconds)]
            latest = max([latest, *(pace.at + max(0, total - pace.step) * pace.seconds for pace in paces)])
        return TimeLeft(latest - now, epoch) if latest > now else None

    @property
    def _counts_epochs(self) -> bool:
        """Return whether the steps of any host are those of one epoch."""
        return any(each.newest is not None and each.newest.counts_epoch for each in self._hosts.values())

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
