"""Transfer line of ``fanout sync``: a progress bar in a terminal; in a pipe it writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from fanout.text.units import format_duration, format_size
from fanout.ui.replaced_line import ReplacedLine

_BAR_CELLS = 20
_REFRESH_SECONDS = 0.1
_ESTIMATE_AFTER = 1.0  # seconds: an earlier estimate of the time left would jump


class TransferLine:
    """The line of one sync."""

    def __init__(
        self, stderr: TextIO, columns: int, *, unicode: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._line = ReplacedLine(stderr, columns)
        self._cells = ("█", "░") if unicode else ("#", "-")
        self._clock = clock
        self._shown_at = 0.0
        self._began_at: float | None = None

    def show_step(self, text: str) -> None:
        """Show a step whose length is not known."""
        self._line.show(f"{text} …")

    def show_transfer(self, done: int, total: int, hosts: str) -> None:
        """Show how many of the bytes have arrived, at most ten times a second."""
        now = self._clock()
        if self._began_at is None:
            self._began_at = now
        if not self._line.is_on or not total or (now - self._shown_at < _REFRESH_SECONDS and done < total):
            return
        self._shown_at = now
        self._line.show(format_transfer(done, total, hosts, now - self._began_at, self._cells))

    def clear(self) -> None:
        """Remove the line."""
        self._line.clear()


def format_transfer(done: int, total: int, hosts: str, seconds: float, cells: tuple[str, str] = ("█", "░")) -> str:
    """Return ``███░░░ 34 MB of 50 MB, 3/16 hosts, 12 s left``."""
    full = _BAR_CELLS * done // total
    left = ""
    if seconds >= _ESTIMATE_AFTER and 0 < done < total:
        left = f", {format_duration(seconds * (total - done) / done)} left"
    return (
        f"{cells[0] * full}{cells[1] * (_BAR_CELLS - full)} {format_size(done)} of {format_size(total)}, {hosts}{left}"
    )
