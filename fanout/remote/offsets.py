"""Stream offsets: bytes received from one host, and bytes acknowledged (the host may delete those). Pure."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace

from fanout.model.events import Chunk
from fanout.remote import protocol

STEP_BYTES = 4 << 20


class ReceivedOffsets:
    """Size and CRC-32 of each stream so far. Every byte counts exactly once and in order, even if it is sent twice."""

    def __init__(self, have: Mapping[int, tuple[int, int]] | None = None) -> None:
        self.sizes = {stream: size for stream, (size, _) in (have or {}).items()}
        self._crcs = {stream: crc for stream, (_, crc) in (have or {}).items()}

    @property
    def progress(self) -> dict[int, tuple[int, int]]:
        """Return (size, CRC-32) of each stream so far."""
        return {stream: (size, self._crcs.get(stream, 0)) for stream, size in self.sizes.items()}

    def accept_chunk(self, chunk: Chunk) -> Chunk | None:
        """Return the new part of ``chunk``, None if nothing is new. Raises ProtocolError if bytes are missing before it."""
        have = self.sizes.get(chunk.stream, 0)
        if chunk.offset > have:
            raise protocol.ProtocolError(f"left out bytes {have}-{chunk.offset} of stream {chunk.stream}")
        data = chunk.data[have - chunk.offset :]
        if not data:
            return None
        self.sizes[chunk.stream] = have + len(data)
        self._crcs[chunk.stream] = zlib.crc32(data, self._crcs.get(chunk.stream, 0))
        return replace(chunk, offset=have, data=data)

    def is_complete(self, totals: Mapping[int, tuple[int, int | None]]) -> bool:
        """Return whether sizes and checksums agree with ``totals``, those of the host."""
        return all(
            self.sizes.get(stream, 0) == size and crc in (None, self._crcs.get(stream, 0))
            for stream, (size, crc) in totals.items()
        )


class Acknowledgements:
    """Acknowledgements to the host, in steps, and one step late.

    The record is written a moment after the bytes. If the launcher dies in between, the host must still have the bytes
    that are not in the record.
    """

    def __init__(self) -> None:
        self._safe: dict[int, int] = {}  # offsets that were processed one step ago
        self._processed: dict[int, int] = {}
        self._unsent = 0

    def build_heartbeat(self) -> bytes:
        """Return a heartbeat frame with the acknowledged offsets."""
        return protocol.heartbeat_frame(self._safe)

    def acknowledge_chunk(self, chunk: Chunk) -> bytes:
        """Count ``chunk``, which is on disk or reported as a gap. Return a frame for the host, b"" if it can wait."""
        self._processed[chunk.stream] = chunk.offset + len(chunk.data)
        self._unsent += len(chunk.data)
        if self._unsent < STEP_BYTES:
            return b""
        self._unsent = 0
        frame = self.build_heartbeat()
        self._safe = dict(self._processed)
        return frame
