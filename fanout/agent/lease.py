"""How long a keeper goes on without a launcher, and whether one listens: both from when it last sent anything.

The clock is CLOCK_BOOTTIME, which goes on while the machine sleeps. What counts is when the launcher's frame reached
this host, not when the keeper came to read it: a keeper that was stopped may find a long queue of heartbeats.
"""

from __future__ import annotations

import time

UNSTARTED_SECONDS = 60.0  # a prepared run that gets no Go is rolled back soon, whatever its lease
DEAF_SECONDS = 15.0  # a launcher sends something every five
UNFETCHED_SECONDS = 3600.0  # without a lease no launcher is expected back soon


def now() -> float:
    """Return seconds since boot, those in suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """``seconds`` of 0 never run out once a launcher has spoken."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.heard = now()
        self.until = self.heard + min(seconds or UNSTARTED_SECONDS, UNSTARTED_SECONDS)

    def renew(self, at: float) -> None:
        """Note that a frame of the launcher reached this host at ``at``; an older one than the last changes nothing."""
        if at >= self.heard:
            self.heard = at
            self.until = at + (self.seconds or UNSTARTED_SECONDS)

    @property
    def left(self) -> float:
        return self.until - now()

    @property
    def silence(self) -> float:
        return now() - self.heard

    @property
    def listened(self) -> bool:
        """Does somebody take what we have? One whose link broke a moment ago is waited for."""
        return self.silence < min(DEAF_SECONDS, self.seconds / 4 if self.seconds else DEAF_SECONDS)

    @property
    def fetched_late(self) -> bool:
        """Is it too late for somebody to come for what only we have?"""
        return self.silence > (self.seconds or UNFETCHED_SECONDS)
