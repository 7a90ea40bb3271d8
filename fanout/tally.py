"""What of one host's streams has arrived here, and what of it is safe, so that the host need not keep it. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace

from fanout import wire
from fanout.events import Chunk

STEP_BYTES = 4 << 20


class Arrived:
    """Size and CRC-32 of each stream so far: every byte exactly once and in order, whatever is said twice."""

    def __init__(self, have: Mapping[int, tuple[int, int]] | None = None) -> None:
        self.sizes = {stream: size for stream, (size, _) in (have or {}).items()}
        self._crcs = {stream: crc for stream, (_, crc) in (have or {}).items()}

    def fresh(self, chunk: Chunk) -> Chunk | None:
        """What of ``chunk`` is new, None if nothing is. Raises BadHost where bytes were left out."""
        have = self.sizes.get(chunk.stream, 0)
        if chunk.offset > have:
            raise wire.BadHost(f"left out bytes {have}-{chunk.offset} of stream {chunk.stream}")
        data = chunk.data[have - chunk.offset :]
        if not data:
            return None
        self.sizes[chunk.stream] = have + len(data)
        self._crcs[chunk.stream] = zlib.crc32(data, self._crcs.get(chunk.stream, 0))
        return replace(chunk, offset=have, data=data)

    def whole(self, totals: Mapping[int, tuple[int, int | None]]) -> bool:
        """Is it all that there was?"""
        return all(
            self.sizes.get(stream, 0) == size and crc in (None, self._crcs.get(stream, 0))
            for stream, (size, crc) in totals.items()
        )


class Receipts:
    """What may be said to be safe: in steps, and one step late.

    The record of a run is written a moment after its bytes, and a launcher that dies in between must still find on the
    host what is not in its record.
    """

    def __init__(self) -> None:
        self._safe: dict[int, int] = {}  # what was dealt with one step ago
        self._dealt: dict[int, int] = {}
        self._unsaid = 0

    def beat(self) -> bytes:
        """A sign of life, with what is safe by now."""
        return wire.beat_frame(self._safe)

    def dealt_with(self, chunk: Chunk) -> bytes:
        """``chunk`` is on our disk, or told as a hole; what to tell the host, b"" if it can wait."""
        self._dealt[chunk.stream] = chunk.offset + len(chunk.data)
        self._unsaid += len(chunk.data)
        if self._unsaid < STEP_BYTES:
            return b""
        self._unsaid = 0
        said = self.beat()
        self._safe = dict(self._dealt)
        return said
