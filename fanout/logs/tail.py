"""Log tails: keep the last output of every stream in bounded memory, as bytes until a caller asks for lines.

For each stream, it keeps the last 32 kB and the last 3 tracebacks from anywhere in the stream.
"""

from __future__ import annotations

from collections import deque

from fanout.logs.demux import format_label
from fanout.logs.line_splitter import LineAssembler
from fanout.logs.prefilter import digest_chunk
from fanout.model.events import Chunk, Event, StreamOpened
from fanout.model.frozen import frozen
from fanout.model.state import RunState
from fanout.text.sanitize import sanitize_line

KEEP_BYTES = 32 * 1024
TRACEBACK_BYTES = 16 * 1024
TRACEBACKS = 3
_OVERLAP = 256  # the first line of a traceback may have a prefix, and may be split over two chunks
_HEAD = b"Traceback (most recent call last)"


@frozen
class LogTail:
    """Log tail of a host: sanitised lines, oldest first, and its last traceback (not torchrun's about it)."""

    speaker: str
    lines: tuple[str, ...]
    traceback: tuple[str, ...] = ()


class _StreamTail:
    __slots__ = ("_chunks", "_finds", "_overlap", "_size")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._overlap = b""
        self._finds: deque[bytearray] = deque(maxlen=TRACEBACKS)

    def add_bytes(self, data: bytes) -> None:
        self._find_tracebacks(data)
        self._chunks.append(data[-KEEP_BYTES:])
        self._size += len(self._chunks[-1])
        while self._size - len(self._chunks[0]) >= KEEP_BYTES:
            self._size -= len(self._chunks.popleft())

    def _find_tracebacks(self, data: bytes) -> None:
        overlap = self._overlap
        speaks = _HEAD in digest_chunk(data).text or _HEAD in overlap + data[: len(_HEAD)]
        searched = overlap + data if speaks or len(data) < _OVERLAP else data
        self._overlap = searched[-_OVERLAP:]
        begins: list[int] = []
        at = searched.find(_HEAD) if speaks else -1
        while at >= 0:
            if at + len(_HEAD) > len(overlap):  # otherwise the last call found it
                begins.append(searched.rfind(b"\n", 0, at) + 1)
            at = searched.find(_HEAD, at + 1)
        if self._finds and len(self._finds[-1]) < TRACEBACK_BYTES:
            end = begins[0] - len(overlap) if begins else len(data)
            self._finds[-1] += data[: max(0, end)]
        for begin, end in zip(begins, [*begins[1:], len(searched)], strict=False):
            self._finds.append(bytearray(searched[begin:end]))
        for find in self._finds:
            del find[TRACEBACK_BYTES:]

    def get_lines(self, count: int) -> tuple[str, ...]:
        whole = _split_lines(b"".join(self._chunks))
        return tuple(whole[-count:])

    def get_traceback(self) -> tuple[str, ...]:
        """Return the last traceback of the program; torchrun's own only reports that a child failed."""
        blocks = [extract_traceback(_split_lines(bytes(find))) for find in self._finds]
        own = [block for block in blocks if block and not _is_torchrun_traceback(block)]
        return own[-1] if own else (blocks[-1] if blocks else ())


class LogTails:
    """Subscriber that keeps the tails of all streams."""

    broken = False

    def __init__(self) -> None:
        self._streams: dict[tuple[str, int], _StreamTail] = {}
        self._labels: dict[tuple[str, int], str] = {}

    def __call__(self, event: Event, state: RunState) -> None:
        if isinstance(event, Chunk):
            self.add_bytes(event.host, event.data, stream=event.stream)
        elif isinstance(event, StreamOpened):
            self._labels[event.host, event.stream] = format_label(event.host, event.name)

    def add_bytes(self, host: str, data: bytes, *, stream: int = 0) -> None:
        key = (host, stream)
        if key not in self._streams:
            self._streams[key] = _StreamTail()
        self._streams[key].add_bytes(data)

    def note(self, text: str) -> None:
        """Ignore the message: a tail holds only the output of a host."""

    def close(self) -> None:
        """Keep everything: there is nothing to close."""

    def get_tail(self, host: str, *, count: int = 15) -> LogTail:
        """Return the tail of the first stream with a traceback, else of the first stream with output."""
        streams = [(key, stream) for key, stream in self._streams.items() if key[0] == host]
        for key, stream in streams:
            traceback = stream.get_traceback()
            if traceback and not _is_torchrun_traceback(traceback):
                return LogTail(speaker=self._get_label(key), lines=stream.get_lines(count), traceback=traceback)
        for key, stream in streams:
            lines = stream.get_lines(count)
            if lines:
                return LogTail(speaker=self._get_label(key), lines=lines, traceback=stream.get_traceback())
        return LogTail(speaker=host, lines=())

    def _get_label(self, key: tuple[str, int]) -> str:
        return self._labels.get(key, format_label(key[0], "" if key[1] == 0 else f"stream {key[1]}"))


def _split_lines(data: bytes) -> list[str]:
    assembler = LineAssembler()
    taken = [*assembler.add_bytes(data), *assembler.take_rest()]
    return [sanitize_line(line.text, colour=False) + (f"…(+{line.more} B)" if line.more else "") for line in taken]


def extract_traceback(lines: list[str]) -> tuple[str, ...]:
    """Return the traceback that begins with the first line, up to and including the line that names the error.

    torchrun may prefix every line with ``[rank5]: ``; lines that are indented after the prefix belong to the traceback.
    """
    if not lines:
        return ()
    margin = lines[0].find(_HEAD.decode())
    end = 1
    for line in lines[1:]:
        end += 1
        body = line[margin:]
        if body and not body.startswith((" ", "\t")):
            break
    return tuple(lines[:end])


def _is_torchrun_traceback(block: tuple[str, ...]) -> bool:
    return any("ChildFailedError" in line or "torch/distributed/elastic" in line for line in block)
