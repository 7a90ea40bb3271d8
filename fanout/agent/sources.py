"""Where a relay reads a run's bytes: the files in the run's directory, and what only the keeper's memory has.

Any of it may be let go of while it is read, so a read is looked at again afterwards: bytes that are there then were
there all the time. What is let go of ends at a block's end, and no read goes over one.
"""

from __future__ import annotations

import os

from . import frames, memory, record


class Sources:
    """The streams of one run."""

    def __init__(self, directory: str = "") -> None:
        self.directory = directory
        self.paths: dict = {}  # of the streams beyond the main one
        self.holes = False  # something may have been let go of
        self._files: dict = {}
        self._memory = -1

    def open(self, stream: int) -> None:
        """At once, not when there is something to read: whoever has the whole log may remove the files before us."""
        if stream not in self._files:
            self._files[stream] = os.open(self._path(stream), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def open_memory(self, path: str) -> None:
        """The same for the keeper's memory, which goes with the keeper."""
        self.holes = True
        if self._memory < 0:
            try:
                self._memory = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                pass  # its bytes are then told as a hole

    def size(self, stream: int) -> int:
        """Of the file alone."""
        self.open(stream)
        return os.fstat(self._files[stream]).st_size

    def read(self, stream: int, cursor: int, size: int) -> tuple:
        """(offset, bytes): what is there from ``cursor`` on. An offset beyond it: what was before that is gone."""
        self.open(stream)
        places = [self._files[stream]]
        if stream == 0 and self._memory >= 0:
            places += [self._memory, places[0]]  # it may have moved to the disk between the two looks
        most = min(frames.CHUNK, size - cursor, memory.BLOCK - cursor % memory.BLOCK)
        for place in places:
            data = os.pread(place, most, cursor)
            if data and (not self.holes or data_from(place, cursor, size) == cursor):
                return cursor, data
        return (min(data_from(place, cursor, size) for place in places) if self.holes else cursor), b""

    def _path(self, stream: int) -> str:
        return self.paths.get(stream) or record.log_path(self.directory, stream)


def data_from(descriptor: int, cursor: int, size: int) -> int:
    """Where, from ``cursor`` on, there is data again: beyond it if what was there has been let go of."""
    try:
        return min(size, os.lseek(descriptor, cursor, os.SEEK_DATA))
    except OSError:
        return size  # nothing is left up to the end
