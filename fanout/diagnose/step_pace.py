"""Slow ranks: compare the step times of each rank, read from its log lines, with those of the others.

Ranks that wait for each other in every step are all as slow as the slowest. Two facts show the slow one: a duration in
its lines (``step_time 0.41``, ``1.2 s/it``), and which rank reaches each step last. Memory is bounded. Of a flood only
the end of a chunk is read.

Paces are compared over the same time, so a rank that prints less often is not slow. The arrival of lines that a program
writes in bursts has no meaning, and the bar of an evaluation has no steps (``StepCounter``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from statistics import median

from fanout.diagnose.rank_steps import LEAST_STEPS, RankSteps, find_common_time, measure_paces
from fanout.logs import rank_prefix
from fanout.logs.line_splitter import LineBuffer, split_last_lines
from fanout.logs.metric_line import MetricReading, read_metrics
from fanout.logs.run_progress import RankPace, RankProgress
from fanout.model.events import Chunk, Event, StreamOpened
from fanout.model.frozen import frozen
from fanout.model.state import RunState
from fanout.text.sanitize import strip_escapes

FACTOR = 1.3  # slow: this many times the median of the others
FACTOR_OF_TWO = 2.0  # with only two ranks either may be the outlier
LATE_SHARE = 0.3  # of a step: mean delay after the first rank
SPREAD_SHARE = 0.05  # of a step: ranks of one host that differ more are shown as a range
LAST_SHARE = 0.7  # share of steps in which the rank is the last
_STEPS_KEPT = 64
_TAIL, _LINES = 2048, 8
_FLOOD_BYTES, _FLOOD_SECONDS = 8192, 0.25
_Who = tuple[str, int | None]  # (host, rank): rank None if ranks share the lines


@frozen
class SlowRank:
    """One rank (or a host whose ranks share a stream) that is slower than the others, with the measure."""

    host: str
    rank: int | None
    text: str
    measure: str = ""  # short form: ``2.2x``

    @property
    def short_text(self) -> str:
        """Return the short form for a table row that already names the host."""
        return self.measure if self.rank is None else f"rank {self.rank}: {self.measure}"

    def __str__(self) -> str:
        who = self.host if self.rank is None else f"rank {self.rank} on {self.host}"
        return f"{who} {self.text}"


@frozen
class _LateStats:
    """Statistics of one rank over steps that others made too: how often last, how late in total."""

    steps: int = 0
    lasts: int = 0
    late: float = 0.0


class StepTimes:
    """Event subscriber that measures steps; ``find_slow`` and ``measure_times`` work at any time."""

    broken = False

    def __init__(self) -> None:
        self._ranks: dict[_Who, RankSteps] = {}
        self._names: dict[tuple[str, int], int | None] = {}
        self._read: dict[tuple[str, int], float] = {}
        self._unread: dict[tuple[str, int], LineBuffer] = {}
        self._came: OrderedDict[tuple[int, bool], dict[_Who, float]] = OrderedDict()
        self._turns: dict[_Who, _LateStats] = {}

    def __call__(self, event: Event, state: RunState) -> None:
        if isinstance(event, StreamOpened):
            self._names[event.host, event.stream] = rank_prefix.parse_stream_rank(event.name)
        elif isinstance(event, Chunk):
            self._read_chunk(event)

    def find_slow(self) -> tuple[SlowRank, ...]:
        """Return the slow ranks, the slowest first."""
        intervals = measure_paces(self._ranks)
        found = _find_above_median(self._collect_stated(), "reports {:.2g} s per step")
        found |= {
            who: slow
            for who, slow in _find_above_median(intervals, "takes {:.2g} s per step").items()
            if who not in found
        }
        found |= {who: slow for who, slow in self._find_late(intervals).items() if who not in found}
        return tuple(found.values())

    def measure_times(self) -> dict[_Who, float]:
        """Return (host, rank) -> seconds per step, as its lines state it, else from their arrival."""
        own = {who: rank.interval for who, rank in self._ranks.items() if rank.interval is not None}
        return dict(
            sorted(
                (own | measure_paces(self._ranks) | self._collect_stated()).items(),
                key=lambda item: (item[0][0], item[0][1] or 0),
            )
        )

    def _collect_stated(self) -> dict[_Who, float]:
        return {who: median(rank.stated) for who, rank in self._ranks.items() if len(rank.stated) >= LEAST_STEPS}

    def summarize_ranks(self) -> RankProgress:
        """Return the pace of each rank, and the steps of the slowest and the fastest rank of each host that differ."""
        paces = measure_paces(self._ranks)
        at = find_common_time(self._ranks[who] for who in paces)
        steps: dict[str, list[int]] = {}
        for who in paces:
            steps.setdefault(who[0], []).append(int(self._ranks[who].estimate_step(at)))
        return RankProgress(
            steps={host: (min(each), max(each)) for host, each in steps.items() if is_spread(min(each), max(each))},
            paces=[RankPace(*self._ranks[who].newest, pace) for who, pace in paces.items()],
        )

    def _read_chunk(self, event: Chunk) -> None:
        key = event.host, event.stream
        block = self._unread.setdefault(key, LineBuffer()).add_bytes(event.data)
        flood = len(event.data) > _FLOOD_BYTES or event.data.count(b"\n") > _LINES
        if not block or (flood and event.at - self._read.get(key, 0.0) < _FLOOD_SECONDS):
            return
        self._read[key] = event.at
        for line in split_last_lines(block, _LINES, most=_TAIL):
            text, rank, _ = rank_prefix.split_rank_prefix(strip_escapes(line))
            reading = read_metrics(text)
            if reading is not None and (reading.step is not None or reading.loss is not None):
                who = (event.host, self._names.get(key) if rank is None else rank)
                self._add_reading(who, event.at, reading)

    def _add_reading(self, who: _Who, at: float, reading: MetricReading) -> None:
        rank = self._ranks.setdefault(who, RankSteps())
        step = rank.counter.count_step(reading)
        if step is None or step <= rank.newest[1]:
            return  # no step of the training, or a restart
        rank.add_step(at, step)
        if reading.step_time is not None:
            rank.stated.append(reading.step_time)
        self._came.setdefault((step, reading.is_bar), {})[who] = at  # a bar is complete only at the next step
        if len(self._came) > _STEPS_KEPT:
            self._turns = _add_to_stats(self._turns, self._came.popitem(last=False)[1])

    def _find_late(self, intervals: Mapping[_Who, float]) -> dict[_Who, SlowRank]:
        turns = self._turns
        for came in self._came.values():
            if len(came) == sum(
                rank.steps > 0 for rank in self._ranks.values()
            ):  # some ranks may not have reached the other steps yet
                turns = _add_to_stats(turns, came)
        usual = median(intervals.values()) if intervals else 0.0
        out = {}
        for who, turn in turns.items():
            mean = turn.late / turn.steps
            often = turn.steps >= LEAST_STEPS and turn.lasts >= LAST_SHARE * turn.steps
            if usual and often and not self._ranks[who].writes_in_bursts and mean >= LATE_SHARE * usual:
                text = (
                    f"is the last to reach {turn.lasts} of {turn.steps} steps, "
                    f"on average {mean:.2g} s after the first ({usual:.2g} s per step)"
                )
                out[who] = SlowRank(host=who[0], rank=who[1], text=text, measure=f"{mean:.2g} s late")
        return out


def _add_to_stats(turns: Mapping[_Who, _LateStats], came: Mapping[_Who, float]) -> dict[_Who, _LateStats]:
    """Return the statistics with one more finished step added."""
    out = dict(turns)
    if len(came) < 3:
        return out
    begin, last = min(came.values()), max(came.items(), key=lambda item: item[1])[0]
    for who, at in came.items():
        turn = out.get(who, _LateStats())
        out[who] = _LateStats(steps=turn.steps + 1, lasts=turn.lasts + (who == last), late=turn.late + at - begin)
    return out


def is_spread(least: int, most: int) -> bool:
    """Return whether two steps at the same time differ by more than chance."""
    return most - least > max(2, SPREAD_SHARE * most)


def _find_above_median(times: Mapping[_Who, float], how: str) -> dict[_Who, SlowRank]:
    """Return the ranks whose time is far above the median of the others; with two ranks the factor is larger."""
    out = {}
    factor = FACTOR_OF_TWO if len(times) == 2 else FACTOR
    for who, seconds in sorted(times.items(), key=lambda item: -item[1]):
        others = [each for one, each in times.items() if one != who]
        usual = median(others) if others else 0.0
        if usual and seconds >= factor * usual:
            ratio = seconds / usual
            text = f"{how.format(seconds)}, {ratio:.1f} times as long as the others ({usual:.2g} s)"
            out[who] = SlowRank(host=who[0], rank=who[1], text=text, measure=f"{ratio:.1f}x")
    return out if len(times) == 2 or len(out) * 2 < len(times) else {}
