"""Log sender of a relay: sends each stream of a run from its files, from the offset that the launcher has.

Nothing is buffered for a slow reader. Pieces of a slow log have pauses between them, because each piece has a cost.
"""

from __future__ import annotations

import time

from . import frames
from .log_reader import LogReader

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Callable

MAX_BURST_BYTES = 1 << 20  # log bytes sent before other descriptors are served
PACE_SECONDS = 0.1  # between pieces of a slow log: views draw as often
SMALL_PIECE_BYTES = 2048  # a larger piece is no slow log: no user reads so fast, and half as many pieces cost half


class LogSender:
    """The log of one run: the size and the offset sent so far of each stream."""

    def __init__(self, directory: str, cursors: dict, write: Callable[[bytes], None]) -> None:
        """Start at ``cursors``, the offsets that the launcher has. ``write`` sends a frame to it."""
        self.reader = LogReader(directory)
        self.sizes: dict = {}
        self.next_at = 0.0  # when the next piece may be sent
        self._cursors = {int(stream): offset for stream, offset in cursors.items()}
        self._write = write

    @property
    def has_unsent(self) -> bool:
        """Return whether a stream has bytes that were not sent."""
        return any(self._cursors.get(stream, 0) < size for stream, size in self.sizes.items())

    def set_sizes(self, sizes: dict) -> None:
        """Replace the sizes by the final ones, whose keys are text."""
        self.sizes = {int(stream): size for stream, size in sizes.items()}

    def send_burst(self) -> None:
        """Send log bytes from the files to the launcher, at most a burst."""
        sent = 0
        for stream, size in self.sizes.items():
            cursor = self._cursors.get(stream, 0)
            while cursor < size and sent < MAX_BURST_BYTES:
                offset, data = self.reader.read(stream, cursor, size)
                if offset > cursor:  # only a late or very slow launcher needs bytes that were freed
                    self._write(frames.pack_control({"t": "log_truncated", "stream": stream, "upto": offset}))
                elif not data:
                    break
                else:
                    self._write(frames.pack_data(stream, cursor, data))
                cursor = offset + len(data)
                sent += len(data)
            self._cursors[stream] = cursor
        if 0 < sent < MAX_BURST_BYTES:
            self.next_at = time.monotonic() + compute_pause(sent)


def compute_pause(sent: int) -> float:
    """Return the seconds between a piece of ``sent`` bytes and the next one."""
    return PACE_SECONDS if sent <= SMALL_PIECE_BYTES else 2 * PACE_SECONDS
