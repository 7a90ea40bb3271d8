"""Who is slow, told while a run goes on: once in words, and in the host's row of the live view as long as it lasts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fanout.diagnose.pace import Pace
from fanout.events import Event
from fanout.state import RunState

EVERY_SECONDS = 5.0
GOOD_PART = 0.25
_Who = tuple[str, int | None]


class PaceTeller:
    """A subscriber. Somebody is slow who was it at two looks, one after the other; ``brief`` tells of all who are now.

    ``muted``: it says nothing while a record is caught up with, and then who is slow now.
    """

    broken = False

    def __init__(self, *say: Callable[[str], None], muted: bool = False) -> None:
        self.says = list(say)
        self._muted = muted
        self._pace = Pace()
        self._due = 0.0
        self._seen: set[_Who] = set()
        self._told: set[_Who] = set()
        self._now: dict[str, str] = {}
        self._looks = 0
        self._lasted: Counter[_Who] = Counter()
        self._texts: dict[_Who, str] = {}

    def __call__(self, event: Event, state: RunState) -> None:
        self._pace(event, state)
        if event.at >= self._due:
            self._due = event.at + EVERY_SECONDS
            self._look()

    def _look(self) -> None:
        slow = {(each.host, each.rank): each for each in self._pace.slow()}
        lasting = {who: each for who, each in slow.items() if who in self._seen}
        self._seen = set(slow)
        self._looks += bool(self._pace.times())
        self._lasted.update(list(lasting))
        self._texts |= {who: str(each) for who, each in lasting.items()}
        self._now = {}
        for (host, _), each in lasting.items():
            self._now.setdefault(host, each.short)  # the slowest of its ranks
        for who in [who for who in lasting if who not in self._told and not self._muted]:
            self._told.add(who)
            for say in self.says:
                say(f"slow: {lasting[who]}")

    def speak(self, state: RunState) -> None:
        """What comes from here on is news."""
        self._muted = False
        self._look()

    def brief(self) -> Mapping[str, str]:
        """host -> how slow, in a word or two."""
        return self._now

    def slow(self) -> tuple[str, ...]:
        """For the report: who is slow now, and who was it for a good part of the time."""
        now = {(each.host, each.rank): str(each) for each in self._pace.slow()}
        for who, text in self._texts.items():
            share = self._lasted[who] / self._looks
            if who not in now and share >= GOOD_PART:
                now[who] = f"{text}; not at the end, but {100 * share:.0f} % of the time"
        return tuple(now.values())

    def times(self) -> Sequence[Mapping[str, Any]]:
        """What is known of every rank's step, as JSON has it."""
        return [
            {"host": host, "rank": rank, "seconds": round(seconds, 4)}
            for (host, rank), seconds in self._pace.times().items()
        ]
