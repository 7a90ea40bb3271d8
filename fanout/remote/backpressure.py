"""Backpressure: at most N unprocessed log chunks per host; the host holds back the rest."""

from __future__ import annotations

import threading


class ChunkLimiter:
    """A limit of ``most`` chunks. One thread adds chunks, another processes them.

    The waiting thread is woken when half of the room is free. A thread switch per chunk would cost more than the chunk.
    """

    def __init__(self, most: int) -> None:
        self._free_places = threading.Semaphore(most)
        self._step = max(1, most // 2)
        self._processed = 0
        self._abandoned = False

    def wait_for_place(self) -> None:
        """Count one chunk; wait until there is room for it."""
        if not self._abandoned:
            self._free_places.acquire()

    def mark_processed(self) -> None:
        """Count one chunk as processed."""
        self._processed += 1
        if self._processed == self._step:
            self._processed = 0
            self._free_places.release(self._step)

    def stop_waiting(self) -> None:
        """Release a waiting thread and never block again: no thread processes chunks any more."""
        self._abandoned = True
        self._free_places.release()
