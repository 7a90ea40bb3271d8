"""Clock of a replay: the position in the run, the speed, and the position that a key asked for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fanout.text.units import format_clock
from fanout.ui.view_facts import ReplayPosition

SLOWEST, FASTEST = 1 / 8, 1024.0
LONGEST_STEP = 1.0  # seconds between two readings that count: after Ctrl-Z the replay goes on where it stopped
CLOSE_SECONDS = 1.0  # an event that is less far back than this, in seconds of the viewer, counts as passed


class Moment(NamedTuple):
    """An event that a viewer may look for: seconds since the start of the run, and what happened."""

    at: float
    text: str


class ReplayClock:
    """Clock of a replay, in seconds since the start of the run. It has the controls that the keys call.

    ``target`` is the position to go to before the next event, None for none. ``left``: the viewer quits.
    """

    def __init__(self, total: float, speed: float, moments: Sequence[Moment], clock: Callable[[], float]) -> None:
        self.total, self.speed, self.paused, self.left = total, speed, False, False
        self.target: float | None = None
        self._moments, self._clock = moments, clock
        self._at, self._read_at = 0.0, clock()

    @property
    def at(self) -> float:
        """Return the present position. It is infinite while nothing delays the events."""
        now = self._clock()
        if not self.paused:
            self._at += min(now - self._read_at, LONGEST_STEP) * self.speed if self.speed != float("inf") else 0.0
        self._read_at = now
        return float("inf") if self.speed == float("inf") and not self.paused else self._at

    @property
    def position(self) -> ReplayPosition:
        at = self._at if self.at == float("inf") else self.at
        return ReplayPosition(at=min(at, self.total), total=self.total, speed=self.speed, paused=self.paused)

    def move(self, at: float) -> None:
        """Set the position, after a seek or, at unlimited speed, after an event."""
        self._at, self._read_at = at, self._clock()

    def quit(self) -> None:
        """Leave the replay."""
        self.left = True

    def toggle_pause(self) -> None:
        self.move(self.position.at)
        self.paused = not self.paused

    def seek_by(self, seconds: float) -> None:
        """Go back or forward; several keys before the next event add up."""
        self._seek((self.position.at if self.target is None else self.target) + seconds)

    def seek_to_event(self, direction: int) -> str:
        """Go to the event after or before the position; return what it is."""
        at = self.position.at if self.target is None else self.target
        if direction > 0:
            found = next((moment for moment in self._moments if moment.at > at + 1e-3), None)
        else:
            limit = at - CLOSE_SECONDS * (1.0 if self.speed == float("inf") else self.speed)
            found = next((moment for moment in reversed(self._moments) if moment.at < limit), None)
        if found is None:
            return "no later event" if direction > 0 else "no earlier event"
        self._seek(found.at)
        return f"{format_clock(found.at)}  {found.text}"

    def seek_to_start(self) -> None:
        self._seek(0.0)

    def seek_to_end(self) -> None:
        self._seek(self.total)

    def _seek(self, at: float) -> None:
        self.target = max(0.0, min(at, self.total))

    def change_speed(self, faster: bool) -> None:
        """Double or halve the speed."""
        self.move(self.position.at)
        if self.speed == float("inf"):
            self.speed = self.speed if faster else FASTEST
        else:
            self.speed = max(SLOWEST, min(FASTEST, self.speed * (2.0 if faster else 0.5)))
