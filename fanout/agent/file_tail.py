"""File tail: copies what a process of the run writes into a file, as it grows, into a stream of the run.

The file belongs to the user or to a launcher. It may be truncated, renamed or deleted at any time. So it is read through a
descriptor, and the bytes are copied: a stream's bytes and offsets never change.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from .run_files import StreamFile

PIECE_BYTES = 1 << 18
LAST_BYTES = 256
MAX_COPY_BYTES = 4 << 20  # the most bytes copied from one file before the keeper serves other descriptors


class FileTail:
    """One followed file."""

    def __init__(self, descriptor: int, start: int, appends: bool, target: StreamFile) -> None:
        """Copy from offset ``start`` on. ``appends``: its writer uses O_APPEND."""
        self.descriptor = descriptor
        self.target = target
        self._offset = start
        self._appends = appends
        self._last = b""  # the last bytes that were copied

    @property
    def missing(self) -> int:
        """Return the number of bytes that are not copied."""
        return max(0, os.fstat(self.descriptor).st_size - self._offset)

    def copy_new(self, most: int = MAX_COPY_BYTES) -> None:
        """Copy at most about ``most`` new bytes. Bytes that the disk does not accept are tried again later."""
        if self._appends and self._is_rewritten():
            self._offset, self._last = 0, b""
        copied = 0
        while copied < most:
            data = self._read_piece()
            taken = self.target.append(data)
            self._offset += taken
            self._last = (self._last + data[:taken])[-LAST_BYTES:]
            copied += taken
            if not data or taken < len(data):
                return

    def _is_rewritten(self) -> bool:
        """Return whether the file was truncated, so that its writer has continued at the front."""
        begin = self._offset - len(self._last)
        return bool(self._last) and os.pread(self.descriptor, len(self._last), begin) != self._last

    def _read_piece(self) -> bytes:
        """Return the next bytes.

        If a file is truncated, a writer without O_APPEND continues at its own offset. The hole before it is skipped, and
        so are the zeros before the first byte of its block.
        """
        data = os.pread(self.descriptor, PIECE_BYTES, self._offset)
        if data[:1] != b"\0":
            return data
        try:
            begin = os.lseek(self.descriptor, self._offset, os.SEEK_DATA)
        except OSError:
            return b""  # only a hole up to the end
        if begin == self._offset:
            return data
        data = os.pread(self.descriptor, PIECE_BYTES, begin)
        kept = data.lstrip(b"\0")
        self._offset = begin + len(data) - len(kept)
        return kept

    def close(self) -> None:
        """Close the file; nothing more is copied."""
        os.close(self.descriptor)
