"""How long a keeper goes on without a launcher, and whether one listens: both from when it last said anything."""

from __future__ import annotations

import time

UNSTARTED_SECONDS = 60.0  # what is prepared and never told to go rolls back soon, whatever its lease
DEAF_SECONDS = 15.0  # a launcher says something every five
UNFETCHED_SECONDS = 3600.0  # without a lease nobody is expected back soon


class Lease:
    """``seconds`` of 0 never run out once a launcher has spoken."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.heard = time.monotonic()
        self.until = self.heard + min(seconds or UNSTARTED_SECONDS, UNSTARTED_SECONDS)

    def renew(self) -> None:
        self.heard = time.monotonic()
        self.until = self.heard + (self.seconds or UNSTARTED_SECONDS)

    @property
    def left(self) -> float:
        return self.until - time.monotonic()

    @property
    def silence(self) -> float:
        return time.monotonic() - self.heard

    @property
    def listened(self) -> bool:
        """Does somebody take what we have? One whose link broke a moment ago is waited for."""
        return self.silence < min(DEAF_SECONDS, self.seconds / 4 if self.seconds else DEAF_SECONDS)

    @property
    def fetched_late(self) -> bool:
        """Is it too late for somebody to come for what only we have?"""
        return self.silence > (self.seconds or UNFETCHED_SECONDS)
