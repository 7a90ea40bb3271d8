"""Input of a probe: bytes that the launcher sends after its question, for example files, through a pipe to the child.

The pipe never blocks the relay, because heartbeats must continue while a disk is slow. The launcher sends only a limited
number of bytes ahead of what the probe has acknowledged, so the bytes that wait here are bounded.
"""

from __future__ import annotations

import os

MOST_WAITING = 64 << 20  # far above what a launcher sends ahead: only a defect exceeds it


class ProbeInput:
    """The writing end of one child's standard input, and the bytes that wait for it."""

    def __init__(self, descriptor: int, stream: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self.stream = stream  # the number of the launcher's frames for this probe
        self._waiting = bytearray()

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting)

    def add_bytes(self, data: bytes) -> None:
        """Append bytes from the launcher, and write what the pipe takes."""
        if len(self._waiting) + len(data) <= MOST_WAITING:
            self._waiting += data
            self.write_waiting()

    def write_waiting(self) -> None:
        """Write what the pipe takes. A child that has ended takes nothing; its answer follows."""
        try:
            while self._waiting:
                del self._waiting[: os.write(self.descriptor, self._waiting[:65536])]
        except BlockingIOError:
            pass
        except OSError:
            self._waiting.clear()
