"""A terminal or a pipe that is written to without waiting for it: what it does not take now, it gets later, in order.

Whoever waits for a terminal that is stopped, or for a pager that nobody scrolls, hears nothing of the hosts meanwhile.
A terminal is opened once more, because one made non-blocking would be so for the shell as well; a pipe is given only
what fits. Files, and whatever else always takes what it is given, are written to as ever.
"""

from __future__ import annotations

import os
import select
import stat
from time import monotonic
from typing import TextIO

from fanout.views.out import Out, as_bytes

ROOM = 64 << 20  # bytes that wait for a reader who is slow, or comes back
LEAST_ROOM = 256  # bytes that a terminal takes at once, if it takes any
STUCK_SECONDS = 5.0  # a reader who takes nothing for so long has turned away


class Outlet:
    """``broken`` as in Out. A reader who is slow is waited for once ROOM bytes are due to him; for one who takes
    nothing at all, lines are left out and counted: the files have them. With ``waits`` it is an Out and no more.
    """

    def __init__(self, stream: TextIO, *, waits: bool = False) -> None:
        self._stream = stream
        self._out = Out(stream)
        self._descriptor, self._piece = (None, 0) if waits else _own(stream)
        self._rest = bytearray()
        self._stuck = False
        self._missed = 0

    @property
    def broken(self) -> bool:
        return self._out.broken

    @property
    def waiting(self) -> bool:
        """Has it not taken yet all that was written?"""
        return bool(self._rest)

    @property
    def ready(self) -> bool:
        """Would it take anything new now? A terminal that is stopped (Ctrl-S) would not."""
        return self._descriptor is None or (not self._rest and self._takes(0.0))

    def write(self, text: str, *, patience: float = 0.0) -> None:
        """Whole lines, or a frame. What has not been taken after ``patience`` seconds waits."""
        if self._descriptor is None or self.broken or self._out.gone or not text:
            self._out.write(text)
            return
        if len(self._rest) > ROOM and not self._made_room():
            self._missed += text.count("\n")
            return
        self._rest += as_bytes(text, self._stream)
        self.push(patience)

    def push(self, patience: float = 0.0) -> None:
        """Hand on what is taken within ``patience`` seconds."""
        if not self._rest:
            return
        until = monotonic() + patience
        while self._rest and self._takes(max(0.0, until - monotonic())) and self._hand_on():
            pass

    def missed(self) -> int:
        """How many lines were left out since the last call; 0 as long as there is no room for more."""
        if not self._missed or len(self._rest) > ROOM:
            return 0
        missed, self._missed = self._missed, 0
        return missed

    def close(self) -> None:
        """Wait until everything is taken: now nothing else has to be done in time. Safe to call twice."""
        while self._rest and self._takes(None):
            self._hand_on()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _made_room(self) -> bool:
        """Wait for a reader who is only slow; one who has turned away is asked again, not waited for."""
        while len(self._rest) > ROOM:
            if not self._takes(0.0 if self._stuck else STUCK_SECONDS):
                self._stuck = True
                return False
            self._hand_on()
        self._stuck = False
        return True

    def _takes(self, seconds: float | None) -> bool:
        assert self._descriptor is not None
        return bool(select.select([], [self._descriptor], [], seconds)[1])

    def _hand_on(self) -> bool:
        assert self._descriptor is not None
        try:
            del self._rest[: os.write(self._descriptor, self._rest[: self._piece])]
        except BlockingIOError:
            return False
        except OSError as error:
            self._rest.clear()
            self._out.give_up(error)
            return False
        return True


def _own(stream: TextIO) -> tuple[int | None, int]:
    """A descriptor that can be written to without waiting, and how much at a time; None: the stream itself will do."""
    try:
        descriptor = stream.fileno()
        stream.flush()
        if os.isatty(descriptor):
            return _terminal(descriptor)
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return os.dup(descriptor), select.PIPE_BUF
    except (OSError, ValueError):
        pass  # no file at all
    return None, 0


def _terminal(descriptor: int) -> tuple[int, int]:
    try:
        return os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK), 1 << 16
    except OSError:  # somebody else's (su), or one that has no name here (a container)
        return os.dup(descriptor), LEAST_ROOM
