"""Non-blocking writer: write to a terminal or a pipe without waiting; buffer the rest and send it later, in order.

If fanout blocked on a stopped terminal or an idle pager, it would not receive the hosts' data meanwhile. A terminal is
opened again, because O_NONBLOCK on the inherited descriptor would affect the shell too. A pipe gets only as much as fits.
Files and other streams that never block are written to directly.
"""

from __future__ import annotations

import os
import select
import stat
from time import monotonic
from typing import TextIO

from fanout.ui.safe_writer import TextWriter, to_bytes

MAX_BUFFER_BYTES = 64 << 20  # bytes that are buffered for a slow or blocked reader
TERMINAL_BYTES = 256  # bytes that a writable terminal accepts at once
STUCK_SECONDS = 5.0  # a reader that reads nothing for this time counts as blocked


class NonblockingWriter:
    """Non-blocking writer. ``broken`` is True once the reader of a pipe has exited.

    When the buffer is full, it waits for a slow reader. For a blocked reader, it drops lines and counts them; the log
    files keep them. With ``waits`` it blocks on every write.
    """

    def __init__(self, stream: TextIO, *, waits: bool = False) -> None:
        self._stream = stream
        self._out = TextWriter(stream)
        self._descriptor, self._piece = (None, 0) if waits else _open_descriptor(stream)
        self._rest = bytearray()
        self._stuck = False
        self._missed = 0

    @property
    def broken(self) -> bool:
        return self._out.broken

    @property
    def has_pending(self) -> bool:
        """Return whether written text is still buffered."""
        return bool(self._rest)

    @property
    def is_ready(self) -> bool:
        """Return whether the stream accepts new text now; a stopped terminal (Ctrl-S) does not."""
        return self._descriptor is None or (not self._rest and self._is_writable(0.0))

    def write(self, text: str, *, patience: float = 0.0) -> None:
        """Write whole lines or a frame; buffer what the stream does not accept within ``patience`` seconds."""
        if self._descriptor is None or self.broken or self._out.is_reader_gone or not text:
            self._out.write(text)
            return
        if len(self._rest) > MAX_BUFFER_BYTES and not self._wait_for_space():
            self._missed += text.count("\n")
            return
        self._rest += to_bytes(text, self._stream)
        self.send_pending(patience)

    def send_pending(self, patience: float = 0.0) -> None:
        """Send as much of the buffer as the stream accepts within ``patience`` seconds."""
        if not self._rest:
            return
        until = monotonic() + patience
        while self._rest and self._is_writable(max(0.0, until - monotonic())) and self._send_piece():
            pass

    def take_dropped_count(self) -> int:
        """Return the number of lines dropped since the last call; 0 while the buffer is full."""
        if not self._missed or len(self._rest) > MAX_BUFFER_BYTES:
            return 0
        missed, self._missed = self._missed, 0
        return missed

    def close(self) -> None:
        """Wait until the buffer is sent; at the end of a run, waiting is harmless. It is safe to call this twice."""
        while self._rest and self._is_writable(None):
            self._send_piece()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _wait_for_space(self) -> bool:
        """Wait for a slow reader to make room; for a blocked reader, only test again. Return whether there is room."""
        while len(self._rest) > MAX_BUFFER_BYTES:
            if not self._is_writable(0.0 if self._stuck else STUCK_SECONDS):
                self._stuck = True
                return False
            self._send_piece()
        self._stuck = False
        return True

    def _is_writable(self, seconds: float | None) -> bool:
        assert self._descriptor is not None
        return bool(select.select([], [self._descriptor], [], seconds)[1])

    def _send_piece(self) -> bool:
        assert self._descriptor is not None
        try:
            del self._rest[: os.write(self._descriptor, self._rest[: self._piece])]
        except BlockingIOError:
            return False
        except OSError as error:
            self._rest.clear()
            self._out.stop_writing(error)
            return False
        return True


def _open_descriptor(stream: TextIO) -> tuple[int | None, int]:
    """Return a descriptor for non-blocking writes and the bytes per write; (None, 0) if the stream never blocks."""
    try:
        descriptor = stream.fileno()
        stream.flush()
        if os.isatty(descriptor):
            return _open_terminal(descriptor)
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return os.dup(descriptor), select.PIPE_BUF
    except (OSError, ValueError):
        pass  # not a real file
    return None, 0


def _open_terminal(descriptor: int) -> tuple[int, int]:
    try:
        return os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK), 1 << 16
    except OSError:  # the terminal belongs to another user (su), or has no name here (a container)
        return os.dup(descriptor), TERMINAL_BYTES
