"""Log spool: bounds the disk space of a run's log on its host, by freeing from the front what the launcher has
acknowledged.

Nothing is freed before half of the limit is reached. So a late launcher finds the whole log of a run of usual size.
Bytes that the disk does not accept go straight to the relays, from a bounded buffer in memory. If neither has room and
a launcher was recently connected, the run blocks in its write, as with a slow terminal. Without a launcher the run
continues; the newest bytes are dropped and counted, because training matters more than its log.
"""

from __future__ import annotations

import os
import time
import zlib

from . import memory, record

ANNOUNCED_SECONDS = 2.0  # relays are informed before the first byte is freed
SHARED = "/dev/shm/"  # a directory there is memory
SHARED_BYTES = 64 << 20
DISK_SECONDS = 1.0  # how often a full disk is tried again
STRAIGHT = (
    "its disk does not accept the run's log (%s): it is sent straight to the launcher, from at most %d MB of memory"
)
DROPPED = "no room for the run's log, and no launcher fetches it: its newest bytes are dropped"


class Spool:
    """The main stream's log, and how much of it and of the ranks' files the launcher has acknowledged."""

    def __init__(self, directory: str, limit: int) -> None:
        self.log = record.Log(directory, 0)
        self.memory = memory.Memory()
        self.crc = 0
        self.dropped = 0
        self.trimming = 0.0  # when trimming was announced; 0: never yet
        self.notice = ""  # what the launcher should know
        self._limit = min(limit or SHARED_BYTES, SHARED_BYTES) if directory.startswith(SHARED) else limit
        self._held = b""  # read from the run, and not yet on disk or in memory
        self._acknowledged: dict = {}
        self._trimmed: dict = {}
        self._disk_again = 0.0

    @property
    def size(self) -> int:
        """Return the bytes of the stream, on disk or in memory."""
        return max(self.log.size, self.memory.end)

    @property
    def waits(self) -> bool:
        """Return whether bytes must be stored before more is read."""
        return bool(self._held)

    @property
    def news(self) -> tuple:
        """Return (path of the memory buffer, notice for the launcher). The keeper sends them again when they change."""
        return self.memory.path, self.notice

    @property
    def only_here(self) -> int:
        """Return the number of bytes that would be lost with this process."""
        return self.memory.size

    def put(self, data: bytes, listened: bool) -> None:
        """Store ``data``. Bytes without room wait, or are dropped if no launcher is connected."""
        self._held += data
        self.retry(listened)

    def retry(self, listened: bool) -> None:
        self.settle()
        over = self._kept(0, self.size) + len(self._held) - self._limit if self._limit else 0
        if over > 0 and listened:
            return
        self._drop(over)
        self._take(memory.MOST_BYTES)
        if not (listened and self.memory.usable):
            self._drop(len(self._held))

    def finish(self) -> None:
        """Store the last bytes, even over the limit: they name the cause of the end."""
        self.settle()
        self._take(memory.MOST_BYTES + memory.LAST_BYTES)
        self._drop(len(self._held))

    def settle(self) -> None:
        """Move bytes from memory to the disk, once the disk accepts data again."""
        if self.memory.end <= self.log.size or time.monotonic() < self._disk_again:
            return
        self._disk_again = time.monotonic() + DISK_SECONDS
        if self.memory.begin > self.log.size and not self.log.skip(self.memory.begin, memory.BLOCK):
            return
        while self.memory.size:
            data = self.memory.front()
            taken = self.log.append(data)
            self.memory.let_go(self.log.size)
            if taken < len(data):
                return

    def _take(self, most: int) -> None:
        """Store on disk; in memory if the disk is full, or if memory has earlier bytes already."""
        if self.size == self.log.size:
            self._accepted(self.log.append(self._held))
        if not self._held:
            return
        if not self.memory.path:
            self._disk_again = time.monotonic() + ANNOUNCED_SECONDS
            self.notice = STRAIGHT % (self.log.trouble, memory.MOST_BYTES >> 20)
        self._accepted(self.memory.put(self._held, self.size, most))

    def _accepted(self, count: int) -> None:
        self.crc = zlib.crc32(self._held[:count], self.crc)
        self._held = self._held[count:]

    def _drop(self, count: int) -> None:
        """Drop the newest ``count`` bytes of those that wait."""
        if count <= 0 or not self._held:
            return
        kept = self._held[: max(0, len(self._held) - count)]
        self.dropped += len(self._held) - len(kept)
        self._held = kept
        self.notice = DROPPED

    def acknowledge(self, have: dict) -> None:
        """Note that the launcher has that many bytes of each stream."""
        self._acknowledged.update({int(stream): int(size) for stream, size in have.items()})
        if self.memory.size:
            self.memory.let_go(self._acknowledged.get(0, 0) // memory.BLOCK * memory.BLOCK)

    def trim(self, sizes: dict, paths: dict) -> bool:
        """Free acknowledged bytes if necessary. Return True when trimming is announced for the first time."""
        if not self._limit or not self._acknowledged:
            return False
        kept = sum(self._kept(stream, size) for stream, size in sizes.items())
        if kept < self._limit / 2 and not self.memory.size:
            return False
        if not self.trimming:
            self.trimming = time.monotonic()
            return True
        if time.monotonic() - self.trimming >= ANNOUNCED_SECONDS:
            for stream, upto in self._acknowledged.items():
                self._trim(stream, paths.get(stream) or record.log_path(self.log.directory, stream), upto)
        return False

    def _kept(self, stream: int, size: int) -> int:
        return int(size - self._trimmed.get(stream, 0))

    def _trim(self, stream: int, path: str, upto: int) -> None:
        start, end = self._trimmed.get(stream, 0), upto // memory.BLOCK * memory.BLOCK
        if end <= start:
            return
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return
        if memory.punch(descriptor, start, end):  # a file system without support keeps all bytes
            self._trimmed[stream] = end
        os.close(descriptor)
