"""Absence of the launcher: the longest time in which it handled no event because it was stopped, killed or asleep."""

from __future__ import annotations

from fanout.model.events import Disconnected, Event, Tick


class LauncherAbsence:
    """Measure of the absence in ``seconds``, from live events or from those of a record.

    A live launcher gets a tick every second, so each longer gap is an absence. A record has no ticks: there only the gap
    before a takeover is one.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._last: float | None = None
        self._has_ticks = False

    def add_event(self, event: Event) -> None:
        """Process one event; they come in the order of the record."""
        last = event.at if self._last is None else self._last
        self._has_ticks = self._has_ticks or isinstance(event, Tick)
        if self._has_ticks or (isinstance(event, Disconnected) and event.launcher_died):
            self.seconds = max(self.seconds, event.at - last)
        self._last = max(last, event.at)
