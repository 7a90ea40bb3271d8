"""Log reader of a relay: reads the files in the run's directory, and the bytes that only the keeper's memory has.

Bytes may be freed during a read. So the reader checks afterwards: bytes that exist then existed all the time. Freed
ranges end at a block's end, and no read crosses one.
"""

from __future__ import annotations

import os

from . import frames, overflow_buffer, run_files


class LogReader:
    """The streams of one run."""

    def __init__(self, directory: str = "") -> None:
        self.directory = directory
        self.paths: dict = {}  # of the streams beyond the main one
        self.holes = False  # some bytes may have been freed
        self._files: dict = {}
        self._memory = -1

    def open_stream(self, stream: int) -> None:
        """Open the stream's file at once: another relay with the whole log may delete it before the first read."""
        if stream not in self._files:
            self._files[stream] = os.open(self._stream_path(stream), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def open_memory(self, path: str) -> None:
        """Open the keeper's memory, which vanishes with the keeper."""
        self.holes = True
        if self._memory < 0:
            try:
                self._memory = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                pass  # its bytes are then reported as truncated

    def read_size(self, stream: int) -> int:
        """Return the size of the stream's file."""
        self.open_stream(stream)
        return os.fstat(self._files[stream]).st_size

    def read(self, stream: int, cursor: int, size: int) -> tuple:
        """Return (offset, bytes) from ``cursor`` on. An offset beyond ``cursor`` means that the bytes before it were
        freed."""
        self.open_stream(stream)
        places = [self._files[stream]]
        if stream == 0 and self._memory >= 0:
            places += [self._memory, places[0]]  # bytes may have moved to the disk between the reads
        most = min(frames.CHUNK, size - cursor, overflow_buffer.BLOCK - cursor % overflow_buffer.BLOCK)
        for place in places:
            data = os.pread(place, most, cursor)
            if data and (not self.holes or find_data(place, cursor, size) == cursor):
                return cursor, data
        return (min(find_data(place, cursor, size) for place in places) if self.holes else cursor), b""

    def _stream_path(self, stream: int) -> str:
        return self.paths.get(stream) or run_files.stream_path(self.directory, stream)


def find_data(descriptor: int, cursor: int, size: int) -> int:
    """Return the next offset with data from ``cursor`` on; it is larger than ``cursor`` if bytes there were freed."""
    try:
        return min(size, os.lseek(descriptor, cursor, os.SEEK_DATA))
    except OSError:
        return size  # nothing is left up to the end
