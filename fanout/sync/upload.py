"""Upload: the records that the launcher sends to a host in a sync, cut into pieces that serve all hosts.

The agent reads these records (``sync.py`` there): a kind, the row of the manifest, and bytes.
"""

from __future__ import annotations

import json
import os
import struct
from collections import deque
from collections.abc import Iterator, Sequence

from fanout.model.frozen import frozen
from fanout.sync.manifest import FileKind, Manifest, encode_path
from fanout.sync.project_files import READ_FLAGS

PIECE_BYTES = 256 << 10
MOST_HELD_BYTES = 128 << 20  # between the fastest and the slowest host
_RECORD = struct.Struct("!cII")


def pack_tokens(tokens: Sequence[str]) -> bytes:
    """Return the record with the tokens of all hosts."""
    return _pack_record(b"T", 0, json.dumps(list(tokens)).encode("ascii"))


def pack_roles(*, writes: bool) -> bytes:
    """Return the record after the tokens: whether this host writes its directory. The host deletes its token."""
    return _pack_record(b"S", 0, json.dumps({"writes": writes}).encode("ascii"))


def pack_commit(*, delete: bool) -> bytes:
    """Return the last record: the host renames all files, and with ``delete`` deletes those of earlier syncs."""
    return _pack_record(b"C", 0, json.dumps({"delete": delete}).encode("ascii"))


def iter_manifest_pieces(manifest: Manifest) -> Iterator[bytes]:
    """Yield the records of the manifest."""
    data = manifest.encoded
    for start in range(0, len(data), PIECE_BYTES):
        yield _pack_record(b"M", 0, data[start : start + PIECE_BYTES])
    yield _pack_record(b"m", 0, b"")


def iter_file_pieces(top: str, manifest: Manifest, rows: Sequence[int]) -> Iterator[bytes]:
    """Yield the records of these files. A file that cannot be read any more arrives short, and the host refuses it."""
    piece = bytearray()
    for row in rows:
        if manifest.files[row].kind is FileKind.LINK:
            continue  # the host has its text in the manifest
        piece += _pack_record(b"F", row, b"")
        for data in _iter_file(f"{top}/{manifest.files[row].path}"):
            piece += _pack_record(b"D", row, data)
            if len(piece) >= PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
        piece += _pack_record(b"E", row, b"")
        if len(piece) >= PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _iter_file(path: str) -> Iterator[bytes]:
    try:
        descriptor = os.open(encode_path(path), READ_FLAGS)
        with open(descriptor, "rb", buffering=0) as file:
            while data := file.read(PIECE_BYTES):
                yield data
    except OSError:
        return


def _pack_record(kind: bytes, row: int, data: bytes) -> bytes:
    return _RECORD.pack(kind, row, len(data)) + data


@frozen
class Piece:
    """One piece as the bytes of its frame. ``size`` is its size for the host, which inflates it."""

    size: int
    frame: bytes


class PieceBuffer:
    """The pieces of one upload that several hosts read at their own speed. Each piece is made once."""

    def __init__(self, source: Iterator[Piece], most_bytes: int = MOST_HELD_BYTES) -> None:
        self._source = source
        self._most_bytes = most_bytes
        self._held: deque[Piece] = deque()
        self._held_bytes = 0
        self._first = 0  # number of the first held piece
        self._next: dict[str, int] = {}  # reader -> number of its next piece
        self._is_over = False

    def add_reader(self, reader: str) -> None:
        self._next[reader] = 0

    def remove_reader(self, reader: str) -> None:
        """Hold no piece for this reader any more."""
        self._next.pop(reader, None)
        self._drop_read()

    def has_ended(self, reader: str) -> bool:
        """Return whether the reader has read all pieces."""
        return self._is_over and self._next[reader] == self._first + len(self._held)

    def read_piece(self, reader: str) -> Piece | None:
        """Return the next piece; None at the end, or if slower readers have to read first."""
        number = self._next[reader]
        if number == self._first + len(self._held) and not self._load_piece():
            return None
        self._next[reader] = number + 1
        piece = self._held[number - self._first]
        self._drop_read()
        return piece

    def _load_piece(self) -> bool:
        if self._held_bytes >= self._most_bytes:
            return False
        piece = next(self._source, None)
        if piece is None:
            self._is_over = True
            return False
        self._held.append(piece)
        self._held_bytes += len(piece.frame)
        return True

    def _drop_read(self) -> None:
        """Drop the pieces that all readers have read."""
        least = min(self._next.values(), default=self._first + len(self._held))
        while self._first < least and self._held:
            self._held_bytes -= len(self._held.popleft().frame)
            self._first += 1
