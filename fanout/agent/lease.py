"""Lease: how long a keeper runs without a launcher, and whether a launcher is fetching; both count from its last frame.

The clock is CLOCK_BOOTTIME, which also runs in suspend. The lease counts from the time at which the launcher's frame
reached this host, not from when the keeper read it: a keeper that was stopped may find a long queue of heartbeats.
"""

from __future__ import annotations

import time

UNSTARTED_SECONDS = 60.0  # a prepared run without a Go is rolled back soon, however long its lease is
INACTIVE_SECONDS = 15.0  # the launcher sends a frame every 5 s
UNFETCHED_SECONDS = 3600.0  # without a lease, no launcher is expected back after this time


def read_boottime() -> float:
    """Return the seconds since boot, including time in suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """Time limit without a launcher. A lease of 0 ``seconds`` never expires once a launcher has sent a frame."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.last_frame_at = read_boottime()
        self.until = self.last_frame_at + min(seconds or UNSTARTED_SECONDS, UNSTARTED_SECONDS)

    def renew(self, at: float) -> None:
        """Note that a launcher's frame reached this host at ``at``. A frame older than the last one changes nothing."""
        if at >= self.last_frame_at:
            self.last_frame_at = at
            self.until = at + (self.seconds or UNSTARTED_SECONDS)

    @property
    def left(self) -> float:
        return self.until - read_boottime()

    @property
    def silence(self) -> float:
        return read_boottime() - self.last_frame_at

    @property
    def is_launcher_active(self) -> bool:
        """Return whether a launcher is fetching the log. A link that broke a moment ago still counts."""
        return self.silence < min(INACTIVE_SECONDS, self.seconds / 4 if self.seconds else INACTIVE_SECONDS)

    @property
    def is_too_late_to_fetch(self) -> bool:
        """Return whether it is too late for a launcher to fetch what only this keeper has."""
        return self.silence > (self.seconds or UNFETCHED_SECONDS)
