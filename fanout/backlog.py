"""How much of a host's log may wait to be dealt with: what is beyond that is held back at the host."""

from __future__ import annotations

import threading


class Backlog:
    """Of at most ``most`` pieces. One thread adds, another deals with them; whoever waits is woken once there is room for
    half as many: to change threads for every piece would cost more than the pieces."""

    def __init__(self, most: int) -> None:
        self._room = threading.Semaphore(most)
        self._step = max(1, most // 2)
        self._dealt = 0
        self._abandoned = False

    def add(self) -> None:
        """One piece; waits until there is room for it."""
        if not self._abandoned:
            self._room.acquire()

    def dealt(self) -> None:
        """One piece has been dealt with."""
        self._dealt += 1
        if self._dealt == self._step:
            self._dealt = 0
            self._room.release(self._step)

    def abandon(self) -> None:
        """Nobody deals with anything any more: who waits may go, and does not wait again."""
        self._abandoned = True
        self._room.release()
