"""Frames: how the launcher, the relay and the keeper talk; shared by both ends so that there is one truth.

A frame is a 5-byte head (body length, kind) and a body. Control travels as one JSON object a frame, log bytes as they
are behind (stream, offset), or deflated where there are many of them: a log shrinks to a fifth or less, and to encrypt
and to carry the rest would cost both ends more. Bodies, also inflated ones, are bounded, so a broken or hostile peer
cannot make us allocate what it likes.
"""

from __future__ import annotations

import json
import struct
import zlib

JSON, DATA, DEFLATED = 1, 2, 3
MAX_BODY = 4 << 20
MOST_VALUES = 200_000  # in one control frame: four million brackets would take a hundred times their room in memory
CHUNK = 256 << 10  # the most log bytes that we put into one frame
LEASE_OVER = "the lease ran out"  # how a host ends its word about a run that it has ended for want of a launcher
MANY = 32 << 10  # log bytes in one piece that are worth deflating: it is a flood, or a backlog

_HEAD = struct.Struct("!IB")
_DATA = struct.Struct("!HQ")


class BadFrame(ValueError):
    """The bytes are not frames: a length over the bound, an unknown kind, JSON that is no object."""


def pack(message: dict) -> bytes:
    """One control frame."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return _HEAD.pack(len(body), JSON) + body


def pack_data(stream: int, offset: int, data: bytes) -> bytes:
    """One frame of log bytes: ``data`` begins at ``offset`` of ``stream``."""
    kind, small = DATA, _deflated(data) if len(data) >= MANY else data
    if len(small) < len(data) * 3 // 4:
        kind, data = DEFLATED, small
    return _HEAD.pack(_DATA.size + len(data), kind) + _DATA.pack(stream, offset) + data


class Splitter:
    """Bytes in, messages out, whatever the cuts: a dict for control, (stream, offset, data) for log bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list:
        """The messages that ``data`` completes. Raises BadFrame; the splitter is of no use after that."""
        buffer = self._buffer
        buffer += data
        messages = []
        start = 0
        while len(buffer) - start >= _HEAD.size:
            length, kind = _HEAD.unpack_from(buffer, start)
            if length > MAX_BODY:
                raise BadFrame("a frame of %d bytes" % length)
            end = start + _HEAD.size + length
            if len(buffer) < end:
                break
            messages.append(_message(kind, bytes(buffer[start + _HEAD.size : end])))
            start = end
        if start:
            del buffer[:start]
        return messages


def _message(kind: int, body: bytes) -> object:
    if kind in (DATA, DEFLATED) and len(body) >= _DATA.size:
        stream, offset = _DATA.unpack_from(body)
        data = body[_DATA.size :]
        return stream, offset, data if kind == DATA else _inflated(data)
    if kind == JSON:
        if body.count(b",") + body.count(b"[") + body.count(b"{") > MOST_VALUES:
            raise BadFrame("control of more than %d values" % MOST_VALUES)
        try:
            message = json.loads(body.decode())
        except ValueError as error:
            raise BadFrame("control that is not JSON: %s" % error) from None
        except RecursionError:
            raise BadFrame("control nested too deeply") from None
        if isinstance(message, dict):
            return message
    raise BadFrame("a frame of kind %d with %d bytes" % (kind, len(body)))


def _deflated(data: bytes) -> bytes:
    """Without zlib's own checksum: ssh has one for every packet, and the log has one to its end."""
    stream = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(data, MAX_BODY)
    except zlib.error as error:
        raise BadFrame("log bytes that cannot be inflated: %s" % error) from None
    if not stream.eof or stream.unused_data:
        raise BadFrame("log bytes that inflate to more than %d, or are cut short" % MAX_BODY)
    return inflated
