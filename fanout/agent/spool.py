"""A bound for what a run's log takes of its host: what the launcher has is let go of, from the front.

Nothing is let go of before half of the limit is reached, so that whoever comes later still finds the whole log of a
run of usual size. What the disk does not take goes straight to the relays, from a bounded piece of memory. Where there
is no room in either and a launcher was heard of lately, the run waits in its write, as it would for a slow terminal;
where nobody listens it goes on and the newest bytes are dropped and counted: training is worth more than its log.
"""

from __future__ import annotations

import os
import time
import zlib

from . import memory, record

ANNOUNCED_SECONDS = 2.0  # relays hear of it before the first byte goes
SHARED = "/dev/shm/"  # a directory there is memory
SHARED_BYTES = 64 << 20
DISK_SECONDS = 1.0  # how often a disk that was full is asked again
STRAIGHT = "its disk does not take the run's log (%s): it goes straight to the link, from at most %d MB of memory"
DROPPED = "there is no room for the run's log, and nobody fetches it: its newest bytes are dropped"


class Spool:
    """The main stream's log, and how much of it and of the ranks' files the launcher has."""

    def __init__(self, directory: str, limit: int) -> None:
        self.log = record.Log(directory, 0)
        self.memory = memory.Memory()
        self.crc = 0
        self.dropped = 0
        self.trimming = 0.0  # since when; 0: never yet
        self.notice = ""  # what the launcher should know of it
        self._limit = min(limit or SHARED_BYTES, SHARED_BYTES) if directory.startswith(SHARED) else limit
        self._held = b""  # read from the run, and neither on disk nor in memory yet
        self._acknowledged: dict = {}
        self._trimmed: dict = {}
        self._disk_again = 0.0

    @property
    def size(self) -> int:
        """Bytes of the stream, wherever they are."""
        return max(self.log.size, self.memory.end)

    @property
    def waits(self) -> bool:
        """Is there something that must find its place before more is read?"""
        return bool(self._held)

    @property
    def news(self) -> tuple:
        """(where its memory can be read, what the launcher should know): told again whenever it changes."""
        return self.memory.path, self.notice

    @property
    def only_here(self) -> int:
        """Bytes that die with this process."""
        return self.memory.size

    def put(self, data: bytes, listened: bool) -> None:
        """Keep ``data``; what finds no room waits, or is dropped if nobody listens."""
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
        """The last words may go over the limit: they say why it ended."""
        self.settle()
        self._take(memory.MOST_BYTES + memory.LAST_BYTES)
        self._drop(len(self._held))

    def settle(self) -> None:
        """Give the disk what is in memory, once it takes something again."""
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
        """Onto the disk; into memory where that is full, or where there are earlier bytes already."""
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
        """The newest ``count`` bytes of what waits."""
        if count <= 0 or not self._held:
            return
        kept = self._held[: max(0, len(self._held) - count)]
        self.dropped += len(self._held) - len(kept)
        self._held = kept
        self.notice = DROPPED

    def acknowledge(self, have: dict) -> None:
        """The launcher has that much of each stream."""
        self._acknowledged.update({int(stream): int(size) for stream, size in have.items()})
        if self.memory.size:
            self.memory.let_go(self._acknowledged.get(0, 0) // memory.BLOCK * memory.BLOCK)

    def trim(self, sizes: dict, paths: dict) -> bool:
        """Let go of what may go, if need be. True when that is announced, for the first time."""
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
        if memory.punch(descriptor, start, end):  # a file system that cannot, keeps it all
            self._trimmed[stream] = end
        os.close(descriptor)
