"""Overflow buffer: bounded memory for log bytes that the host's disk does not accept; relays read it like a file.

The bytes are stored at their offsets in the stream. So a reader tries the log's file first and this buffer second.
Bytes that the launcher has acknowledged, or that the disk has accepted later, are freed from the front.
"""

from __future__ import annotations

import ctypes
import os

from .spawn import LIBC

PUNCH = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, linux/falloc.h
BLOCK = 1 << 20  # freed ranges end at a multiple, and no read crosses one: a read meets all of a hole or none of it
MAX_BYTES = 16 << 20  # twice what a launcher may have unacknowledged, so its acknowledgements always free some
FINAL_EXTRA_BYTES = 2 << 20  # extra room for the last lines, which name the cause of the end


class OverflowBuffer:
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
        """Return a path where another process of this user can open it; "" until it is first used."""
        return "/proc/%d/fd/%d" % (os.getpid(), self._file) if self._file >= 0 else ""

    def store(self, data: bytes, at: int, most: int = MAX_BYTES) -> int:
        """Store as many bytes of ``data`` as fit, from offset ``at`` on. Return how many were stored."""
        if not self.size:
            self.begin = self.end = at
        taken = max(0, min(len(data), most - self.size))
        try:
            if self._file < 0:
                self._file = os.memfd_create("fanout-log", os.MFD_CLOEXEC)
            taken = os.pwrite(self._file, data[:taken], self.end) if taken else 0
        except (OSError, AttributeError):  # the kernel or libc does not support it
            self.usable = False
            return 0
        self.end += taken
        return taken

    def read_front(self) -> bytes:
        """Return the first bytes, at most one block."""
        return os.pread(self._file, min(BLOCK, self.size), self.begin) if self.size else b""

    def free_until(self, upto: int) -> None:
        """Free the bytes before ``upto``. The last part of a block stays until the whole block can be freed."""
        before, self.begin = self.begin // BLOCK * BLOCK, max(self.begin, min(upto, self.end))
        end = self.begin // BLOCK * BLOCK
        if end > before:
            punch_hole(self._file, before, end)


def punch_hole(descriptor: int, start: int, end: int) -> bool:
    """Free these bytes in the file system. A hole remains and the offsets stay. Return False if it is not supported."""
    offset, length = ctypes.c_long(start), ctypes.c_long(end - start)
    return bool(LIBC.fallocate(descriptor, PUNCH, offset, length) == 0)
