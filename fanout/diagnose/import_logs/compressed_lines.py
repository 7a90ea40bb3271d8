"""Packed files: read the lines of a plain, gz, bz2, xz or zst file in bounded memory."""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import zlib
from collections import deque
from collections.abc import Generator
from functools import partial
from itertools import islice
from typing import Any, BinaryIO

from fanout.logs.line_splitter import join_chunks
from fanout.model.errors import UsageError

BLOCK = 256 * 1024
MAX_LINE_BYTES = 64 * 1024  # bytes of a line that are kept; the rest is dropped
ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_MODULES = ("compression.zstd", "zstandard", "backports.zstd")
SAMPLE_LINES = 200
SAMPLE_BYTES = 1 << 20  # of the end of a plain file
UNPACK_ERRORS = (OSError, zlib.error, lzma.LZMAError)


def read_lines(file: BinaryIO, name: str) -> Generator[bytes, None, None]:
    """Yield the lines with their line ends; of a truncated packed file, only complete lines. Raises UsageError."""
    text = _open_unpacked(file, name)
    try:
        yield from join_chunks(iter(partial(text.read1, BLOCK), b""), limit=MAX_LINE_BYTES)
    except EOFError:
        return
    except UNPACK_ERRORS as error:
        raise UsageError(f"{name}: cannot unpack it: {error}") from None
    except Exception as error:
        if type(error).__name__ != "ZstdError":  # each zstd module defines its own
            raise
        raise UsageError(f"{name}: cannot unpack it: {error}") from None
    finally:
        if text is not file:
            text.close()


def read_sample(file: BinaryIO, name: str) -> list[bytes]:
    """Return the first and the last lines of a file, at most ``SAMPLE_LINES`` of each. Raises UsageError."""
    packed = _is_packed(file)
    lines = read_lines(file, name)
    first = list(islice(lines, SAMPLE_LINES))
    if packed:
        return first + list(deque(lines, maxlen=SAMPLE_LINES))
    lines.close()
    size = file.seek(0, 2)
    if size <= SAMPLE_BYTES:
        file.seek(0)
        return first + list(deque(islice(read_lines(file, name), len(first), None), maxlen=SAMPLE_LINES))
    file.seek(size - SAMPLE_BYTES)
    return first + file.read().split(b"\n")[1:][-SAMPLE_LINES:]


def _is_packed(file: BinaryIO) -> bool:
    head = file.read(6)
    file.seek(0)
    return head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", ZSTD))


def _open_unpacked(file: BinaryIO, name: str) -> Any:
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if head == b"\xfd7zXZ\0":
        return lzma.LZMAFile(file)
    return _open_zstd(file, name) if head.startswith(ZSTD) else file


def _open_zstd(file: BinaryIO, name: str) -> Any:
    """Open a zstd file with one of the zstd modules of this Python. Raises UsageError."""
    for module in _ZSTD_MODULES:
        try:
            zstd = importlib.import_module(module)
        except ImportError:
            continue
        if module == "zstandard":
            return _ZstdReader(
                zstd.ZstdDecompressor(max_window_size=1 << 27).stream_reader(file, read_across_frames=True)
            )
        return zstd.ZstdFile(file)
    raise UsageError(f"{name}: this Python cannot read zstd files", hint=f"zstd -dc {name} | fanout why -")


class _ZstdReader:
    """Adapter of a ``zstandard`` reader to the ``read1`` method of the standard library."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def read1(self, size: int) -> bytes:
        """Read at most ``size`` bytes."""
        return bytes(self._reader.read(size))

    def close(self) -> None:
        """Close the reader, but not the file that it reads."""
        self._reader.close()
