"""A bound for what a run's log takes of its host's disk: what the launcher has is let go of, from the front.

Nothing is let go of before half of the limit is reached, so that whoever comes later still finds the whole log of a
run of usual size. Where the limit is reached all the same, and a launcher is listening, the run waits in its write, as
it would for a slow terminal; where nobody listens it goes on and the newest bytes are dropped and counted: training is
worth more than its log. The same where the disk itself is full.
"""

from __future__ import annotations

import ctypes
import os
import time

from . import record
from .spawn import LIBC

PUNCH = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, linux/falloc.h
PAGE = 1 << 20
ANNOUNCED_SECONDS = 2.0  # relays hear of it before the first byte goes
HELD_BYTES = 1 << 20


class Spool:
    """The main stream's log, and how much of it and of the ranks' files the launcher has."""

    def __init__(self, directory: str, limit: int) -> None:
        self.log = record.Log(directory, 0)
        self._limit = limit
        self._held = b""  # read from the run, and not taken by the disk yet
        self._acknowledged: dict = {}
        self._trimmed: dict = {}
        self.trimming = 0.0  # since when; 0: never yet

    @property
    def waits(self) -> bool:
        """Is there something that must be written before more is read?"""
        return bool(self._held)

    def put(self, data: bytes, listened: bool) -> None:
        """Write ``data``; what finds no room waits, or is dropped if nobody listens."""
        self._held += data
        self.retry(listened)

    def retry(self, listened: bool) -> None:
        if self._limit and listened and self._kept(0, self.log.size) + len(self._held) > self._limit:
            return
        if self._limit and not listened:
            room = max(0, self._limit - self._kept(0, self.log.size))
            self._held, rest = self._held[:room], self._held[room:]
            self.log.dropped += len(rest)
        self._held = self.log.append(self._held)
        helps = listened and self._acknowledged.get(0, 0) < self.log.size  # what is acknowledged makes room
        if self._held and not (helps and self.trimming):
            self.log.dropped += len(self._held)
            self._held = b""

    def finish(self) -> None:
        """The last words may go over the limit: they say why it ended."""
        self._held = self.log.append(self._held)
        self.log.dropped += len(self._held)
        self._held = b""

    def acknowledge(self, have: dict) -> None:
        """The launcher has that much of each stream."""
        self._acknowledged.update({int(stream): int(size) for stream, size in have.items()})

    def trim(self, sizes: dict, paths: dict) -> bool:
        """Let go of what may go, if need be. True when that is announced, for the first time."""
        if not self._limit or not self._acknowledged:
            return False
        if sum(self._kept(stream, size) for stream, size in sizes.items()) < self._limit / 2:
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
        start, end = self._trimmed.get(stream, 0), upto // PAGE * PAGE
        if end <= start:
            return
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return
        offset, length = ctypes.c_long(start), ctypes.c_long(end - start)
        if LIBC.fallocate(descriptor, PUNCH, offset, length) == 0:  # a file system that cannot, keeps it all
            self._trimmed[stream] = end
        os.close(descriptor)


def data_from(descriptor: int, cursor: int, size: int) -> int:
    """Where, from ``cursor`` on, there is data again: beyond it if what was there has been let go of."""
    try:
        return min(size, os.lseek(descriptor, cursor, os.SEEK_DATA))
    except OSError:
        return size  # nothing is left up to the end
