"""Slow ranks of an active run: report each once, and mark its host in the live view while it stays slow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fanout.diagnose.step_pace import StepTimes
from fanout.logs.run_progress import RankProgress
from fanout.model.events import Event
from fanout.model.state import RunState

EVERY_SECONDS = 5.0
LASTING_SHARE = 0.25
_Who = tuple[str, int | None]


class SlowRankReporter:
    """Subscriber that reports slow ranks. A rank counts as slow after two slow samples in a row.

    ``muted``: report nothing while the past of a record is read, and then the ranks that are slow now.
    """

    broken = False

    def __init__(self, *outputs: Callable[[str], None], muted: bool = False) -> None:
        self.outputs = list(outputs)
        self._muted = muted
        self._pace = StepTimes()
        self._due = 0.0
        self._seen: set[_Who] = set()
        self._reported: set[_Who] = set()
        self._now: dict[str, str] = {}
        self._looks = 0
        self._lasted: Counter[_Who] = Counter()
        self._texts: dict[_Who, str] = {}
        self._ranks = RankProgress()

    def __call__(self, event: Event, state: RunState) -> None:
        self._pace(event, state)
        if event.at >= self._due:
            self._due = event.at + EVERY_SECONDS
            self._take_sample()

    def _take_sample(self) -> None:
        slow = {(each.host, each.rank): each for each in self._pace.find_slow()}
        lasting = {who: each for who, each in slow.items() if who in self._seen}
        self._seen = set(slow)
        self._ranks = self._pace.summarize_ranks()
        self._looks += bool(self._pace.measure_times())
        self._lasted.update(list(lasting))
        self._texts |= {who: str(each) for who, each in lasting.items()}
        self._now = {}
        for (host, _), each in lasting.items():
            self._now.setdefault(host, each.short_text)  # the slowest of its ranks
        for who in [who for who in lasting if who not in self._reported and not self._muted]:
            self._reported.add(who)
            for output in self.outputs:
                output(f"slow: {lasting[who]}")

    def start_reporting(self, state: RunState) -> None:
        """Report from now on, and report the ranks that are slow already."""
        self._muted = False
        self._take_sample()

    def slow_hosts(self) -> Mapping[str, str]:
        """Return host -> short text, for each host with a rank that is slow now."""
        return self._now

    def summarize_ranks(self) -> RankProgress:
        """Return the progress of all ranks at the last sample."""
        return self._ranks

    def list_slow_ranks(self) -> tuple[str, ...]:
        """Return lines for the report: ranks that are slow now, or were slow in at least a quarter of the samples."""
        now = {(each.host, each.rank): str(each) for each in self._pace.find_slow()}
        for who, text in self._texts.items():
            share = self._lasted[who] / self._looks
            if who not in now and share >= LASTING_SHARE:
                now[who] = f"{text}; not at the end, but {100 * share:.0f} % of the time"
        return tuple(now.values())

    def list_step_times(self) -> Sequence[Mapping[str, Any]]:
        """Return host, rank and seconds per step of every rank, for JSON."""
        return [
            {"host": host, "rank": rank, "seconds": round(seconds, 4)}
            for (host, rank), seconds in self._pace.measure_times().items()
        ]
