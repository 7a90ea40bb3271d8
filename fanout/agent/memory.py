"""What a host's disk does not take of a run's log: a bounded piece of memory that relays read as they read a file.

The bytes stand in it at the offsets that they have in the stream, so whoever reads asks the log's file first and this
second. What the launcher has, or the disk has taken after all, is let go of from the front.
"""

from __future__ import annotations

import ctypes
import os

from .spawn import LIBC

PUNCH = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, linux/falloc.h
BLOCK = 1 << 20  # what is let go of ends at a multiple, and no read goes over one: it meets all of a hole or none of it
MOST_BYTES = 16 << 20  # twice what a launcher may have without having said so: its receipts always make room again
LAST_BYTES = 2 << 20  # that much more for the last words: they say why it ended


class Memory:
    """Bytes from ``begin`` to ``end`` of a stream."""

    def __init__(self) -> None:
        self._file = -1
        self.usable = True
        self.begin = 0
        self.end = 0

    @property
    def size(self) -> int:
        return self.end - self.begin

    @property
    def path(self) -> str:
        """Where another process of ours can open it; "" as long as it was never needed."""
        return "/proc/%d/fd/%d" % (os.getpid(), self._file) if self._file >= 0 else ""

    def put(self, data: bytes, at: int, most: int = MOST_BYTES) -> int:
        """Take what there is room for, as the bytes from offset ``at`` on; how many were taken."""
        if not self.size:
            self.begin = self.end = at
        taken = max(0, min(len(data), most - self.size))
        try:
            if self._file < 0:
                self._file = os.memfd_create("fanout-log", os.MFD_CLOEXEC)
            taken = os.pwrite(self._file, data[:taken], self.end) if taken else 0
        except (OSError, AttributeError):  # a kernel or a libc without it
            self.usable = False
            return 0
        self.end += taken
        return taken

    def front(self) -> bytes:
        """The first bytes, as many as one is to write at a time."""
        return os.pread(self._file, min(BLOCK, self.size), self.begin) if self.size else b""

    def let_go(self, upto: int) -> None:
        """Nobody needs what is before ``upto``. The last part of a block stays in memory until its block can go."""
        before, self.begin = self.begin // BLOCK * BLOCK, max(self.begin, min(upto, self.end))
        end = self.begin // BLOCK * BLOCK
        if end > before:
            punch(self._file, before, end)


def punch(descriptor: int, start: int, end: int) -> bool:
    """Give these bytes back to the file system; a hole is left, and the offsets stay. False where it cannot."""
    offset, length = ctypes.c_long(start), ctypes.c_long(end - start)
    return bool(LIBC.fallocate(descriptor, PUNCH, offset, length) == 0)
