"""Frames: the protocol between launcher, relay and keeper. Both ends use this module.

A frame is a 5-byte head (body length, kind) and a body. Control is one JSON object a frame. Log bytes follow (stream,
offset) unchanged; large pieces are deflated. A log shrinks to a fifth or less, which saves both ends encryption and
transfer. Bodies are bounded, also after inflation. So a broken or hostile peer cannot make us allocate without limit.
"""

from __future__ import annotations

import json
import struct
import zlib

#: Version of the frames between relay and keeper, and of the status file. The relay comes with the launcher, so a keeper
#: that still runs can have another version. Raise it with every change of a name or a meaning.
PROTOCOL_VERSION = 4
JSON, DATA, DEFLATED = 1, 2, 3
MAX_BODY = 4 << 20
MAX_VALUES = 200_000  # in one control frame: four million brackets would need a hundred times their size in memory
CHUNK = 256 << 10  # the most log bytes in one frame
DEFLATE_MIN_BYTES = 32 << 10  # log bytes in one piece that are worth deflating: a flood, or a backlog

_HEAD = struct.Struct("!IB")
_DATA = struct.Struct("!HQ")


class BadFrame(ValueError):
    """Bytes that are no valid frame: a length over the limit, an unknown kind, or JSON that is no object."""


def check_version(message: dict) -> None:
    """Raise ValueError if a message between relay and keeper is of another version of fanout."""
    if message.get("v") != PROTOCOL_VERSION:
        raise ValueError("a message of another version of fanout")


def pack_control(message: dict) -> bytes:
    """Return one control frame."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return _HEAD.pack(len(body), JSON) + body


def pack_data(stream: int, offset: int, data: bytes) -> bytes:
    """Return one frame of log bytes: ``data`` begins at ``offset`` of ``stream``."""
    kind, small = DATA, _deflate(data) if len(data) >= DEFLATE_MIN_BYTES else data
    if len(small) < len(data) * 3 // 4:
        kind, data = DEFLATED, small
    return _HEAD.pack(_DATA.size + len(data), kind) + _DATA.pack(stream, offset) + data


class FrameSplitter:
    """Decoder from bytes to messages, independent of how the bytes are cut.

    A control message is a dict; log bytes are (stream, offset, data).
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list:
        """Return the messages that ``data`` completes. Raises BadFrame; the splitter cannot be used after that."""
        buffer = self._buffer
        buffer += data
        messages = []
        start = 0
        while len(buffer) - start >= _HEAD.size:
            length, kind = _HEAD.unpack_from(buffer, start)
            if length > MAX_BODY:
                raise BadFrame("a frame of %d bytes exceeds the limit" % length)
            end = start + _HEAD.size + length
            if len(buffer) < end:
                break
            messages.append(_parse_body(kind, bytes(buffer[start + _HEAD.size : end])))
            start = end
        if start:
            del buffer[:start]
        return messages


def _parse_body(kind: int, body: bytes) -> object:
    if kind in (DATA, DEFLATED) and len(body) >= _DATA.size:
        stream, offset = _DATA.unpack_from(body)
        data = body[_DATA.size :]
        return stream, offset, data if kind == DATA else _inflate(data)
    if kind == JSON:
        if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_VALUES:
            raise BadFrame("a control frame with more than %d values" % MAX_VALUES)
        try:
            message = json.loads(body.decode())
        except ValueError as error:
            raise BadFrame("a control frame that is not JSON: %s" % error) from None
        except RecursionError:
            raise BadFrame("a control frame that is nested too deeply") from None
        if isinstance(message, dict):
            return message
    raise BadFrame("a frame of kind %d with %d bytes" % (kind, len(body)))


def _deflate(data: bytes) -> bytes:
    """Deflate without zlib's checksum: ssh protects every packet, and the log has its own checksum."""
    stream = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def _inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = stream.decompress(data, MAX_BODY)
    except zlib.error as error:
        raise BadFrame("log bytes that cannot be inflated: %s" % error) from None
    if not stream.eof or stream.unused_data:
        raise BadFrame("log bytes that inflate to more than %d bytes, or are cut short" % MAX_BODY)
    return inflated
