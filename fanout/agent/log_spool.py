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

from . import overflow_buffer, run_files

ANNOUNCED_SECONDS = 2.0  # relays are informed before the first byte is freed
SHM_PREFIX = "/dev/shm/"  # a directory there is memory
SHARED_BYTES = 64 << 20
DISK_SECONDS = 1.0  # how often a full disk is tried again
STRAIGHT_NOTICE = (
    "its disk does not accept the run's log (%s): it is sent straight to the launcher, from at most %d MB of memory"
)
DROPPED_NOTICE = "no space for the run's log, and no launcher fetches it: its newest bytes are dropped"


class LogSpool:
    """The main stream's log, and how much of it and of the ranks' files the launcher has acknowledged."""

    def __init__(self, directory: str, limit: int) -> None:
        self.log = run_files.StreamFile(directory, 0)
        self.memory = overflow_buffer.OverflowBuffer()
        self.crc = 0
        self.dropped = 0
        self.announced_at = 0.0  # when freeing was announced; 0: never yet
        self.notice = ""  # what the launcher should know
        self._limit = min(limit or SHARED_BYTES, SHARED_BYTES) if directory.startswith(SHM_PREFIX) else limit
        self._pending = b""  # read from the run, and not yet on disk or in memory
        self._acknowledged: dict = {}
        self._freed: dict = {}
        self._disk_again = 0.0

    @property
    def size(self) -> int:
        """Return the bytes of the stream, on disk or in memory."""
        return max(self.log.size, self.memory.end)

    @property
    def has_pending(self) -> bool:
        """Return whether bytes must be stored before more is read."""
        return bool(self._pending)

    @property
    def status_key(self) -> tuple:
        """Return (path of the memory buffer, notice for the launcher). The keeper sends them again when they change."""
        return self.memory.path, self.notice

    @property
    def only_here(self) -> int:
        """Return the number of bytes that would be lost with this process."""
        return self.memory.size

    def store(self, data: bytes, has_launcher: bool) -> None:
        """Store ``data``. Bytes without room wait, or are dropped if no launcher is connected."""
        self._pending += data
        self.store_pending(has_launcher)

    def store_pending(self, has_launcher: bool) -> None:
        self.move_to_disk()
        over = self._count_kept(0, self.size) + len(self._pending) - self._limit if self._limit else 0
        if over > 0 and has_launcher:
            return
        self._drop_newest(over)
        self._store_held(overflow_buffer.MAX_BYTES)
        if not (has_launcher and self.memory.usable):
            self._drop_newest(len(self._pending))

    def finish(self) -> None:
        """Store the last bytes, even over the limit: they name the cause of the end."""
        self.move_to_disk()
        self._store_held(overflow_buffer.MAX_BYTES + overflow_buffer.FINAL_EXTRA_BYTES)
        self._drop_newest(len(self._pending))

    def move_to_disk(self) -> None:
        """Move bytes from memory to the disk, once the disk accepts data again."""
        if self.memory.end <= self.log.size or time.monotonic() < self._disk_again:
            return
        self._disk_again = time.monotonic() + DISK_SECONDS
        if self.memory.begin > self.log.size and not self.log.skip_to(self.memory.begin, overflow_buffer.BLOCK):
            return
        while self.memory.size:
            data = self.memory.read_front()
            taken = self.log.append(data)
            self.memory.free_until(self.log.size)
            if taken < len(data):
                return

    def _store_held(self, most: int) -> None:
        """Store on disk; in memory if the disk is full, or if memory has earlier bytes already."""
        if self.size == self.log.size:
            self._mark_stored(self.log.append(self._pending))
        if not self._pending:
            return
        if not self.memory.path:
            self._disk_again = time.monotonic() + ANNOUNCED_SECONDS
            self.notice = STRAIGHT_NOTICE % (self.log.trouble, overflow_buffer.MAX_BYTES >> 20)
        self._mark_stored(self.memory.store(self._pending, self.size, most))

    def _mark_stored(self, count: int) -> None:
        self.crc = zlib.crc32(self._pending[:count], self.crc)
        self._pending = self._pending[count:]

    def _drop_newest(self, count: int) -> None:
        """Drop the newest ``count`` bytes of those that wait."""
        if count <= 0 or not self._pending:
            return
        kept = self._pending[: max(0, len(self._pending) - count)]
        self.dropped += len(self._pending) - len(kept)
        self._pending = kept
        self.notice = DROPPED_NOTICE

    def acknowledge(self, have: dict) -> None:
        """Note that the launcher has that many bytes of each stream."""
        self._acknowledged.update({int(stream): int(size) for stream, size in have.items()})
        if self.memory.size:
            self.memory.free_until(self._acknowledged.get(0, 0) // overflow_buffer.BLOCK * overflow_buffer.BLOCK)

    def free_acknowledged(self, sizes: dict, paths: dict) -> bool:
        """Free acknowledged bytes if necessary. Return True when freeing is announced for the first time."""
        if not self._limit or not self._acknowledged:
            return False
        kept = sum(self._count_kept(stream, size) for stream, size in sizes.items())
        if kept < self._limit / 2 and not self.memory.size:
            return False
        if not self.announced_at:
            self.announced_at = time.monotonic()
            return True
        if time.monotonic() - self.announced_at >= ANNOUNCED_SECONDS:
            for stream, upto in self._acknowledged.items():
                self._free_stream(stream, paths.get(stream) or run_files.stream_path(self.log.directory, stream), upto)
        return False

    def _count_kept(self, stream: int, size: int) -> int:
        return int(size - self._freed.get(stream, 0))

    def _free_stream(self, stream: int, path: str, upto: int) -> None:
        start, end = self._freed.get(stream, 0), upto // overflow_buffer.BLOCK * overflow_buffer.BLOCK
        if end <= start:
            return
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return
        if overflow_buffer.punch_hole(descriptor, start, end):  # a file system without support keeps all bytes
            self._freed[stream] = end
        os.close(descriptor)
