"""Keyboard of the live view: read keys without Enter and without echo, and restore the terminal at the end.

The terminal is read and changed only while fanout is its foreground process group. In the background, behind a pipe or
after a hang-up there are no keys, so the job is never stopped by SIGTTIN or SIGTTOU. Ctrl-Z first restores the terminal.
After SIGKILL the shell restores it: shells do that after a job that was killed by a signal.
"""

from __future__ import annotations

import codecs
import os
import select
import signal
import termios
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from fanout.ui.key_parser import Key, KeyParser

BRACKETED_PASTE, PLAIN_PASTE = "\x1b[?2004h", "\x1b[?2004l"  # the view writes them: this class writes nothing
_LOCAL = 3  # index of the local modes in the result of tcgetattr
_CONTROL = 6


class Keyboard:
    """Keyboard of the terminal ``descriptor``. Reading never waits; after ``close`` nothing is read or changed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before: list[Any] | None = None  # the modes to restore
        self._entered = False
        self._over = False
        self._parser = KeyParser()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.away = False  # another process group is in the terminal's foreground
        self.suspend_requested = False  # after Ctrl-Z: the view erases its block, then suspends
        self._handlers: dict[int, Any] = {}
        handlers: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGTSTP: self._handle_sigtstp,
            signal.SIGCONT: self._handle_sigcont,
        }
        for number, handler in handlers.items():
            if signal.getsignal(number) is not signal.SIG_IGN:  # inherit an ignored signal from the parent
                self._handlers[number] = signal.signal(number, handler)

    @property
    def is_reading(self) -> bool:
        """Return whether the terminal is in the modes that this class sets."""
        return self._entered

    def read_keys(self) -> list[Key]:
        """Return the keys pressed since the last call."""
        if self.check_foreground() or self._over:
            return []
        try:
            if not self._entered:
                self._enter_raw_mode()
            if not select.select([self._descriptor], [], [], 0)[0]:
                return self._parser.flush()
            data = os.read(self._descriptor, 65536)
        except (OSError, termios.error):
            data = b""
        if not data:
            self._over = True  # hung up
        return self._parser.parse_text(self._decoder.decode(data))

    def wait_for_key(self, seconds: float) -> None:
        """Wait for a key, at most ``seconds``; wait as long where no key can come."""
        if self._over or self.away or not self._entered:
            time.sleep(seconds)
        else:
            select.select([self._descriptor], [], [], seconds)

    def check_foreground(self) -> bool:
        """Update ``away`` and return it: whether another process group is in the terminal's foreground."""
        self.away = not self._is_foreground()
        return self.away

    def suspend_process(self) -> None:
        """Carry out Ctrl-Z: restore the terminal and stop this process until the job is continued."""
        self.suspend_requested = False
        self._restore_modes()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._handle_sigtstp)

    def close(self) -> None:
        """Restore the terminal and the signal handlers. It is safe to call this twice."""
        self._restore_modes()
        self._over = True
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _handle_sigtstp(self, number: int, frame: FrameType | None) -> None:
        self.suspend_requested = True

    def _handle_sigcont(self, number: int, frame: FrameType | None) -> None:
        self._entered = False  # the shell changed the terminal's modes meanwhile

    def _is_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:
            return False

    def _enter_raw_mode(self) -> None:
        modes = termios.tcgetattr(self._descriptor)
        if self._before is None or modes[_LOCAL] & termios.ICANON:
            self._before = termios.tcgetattr(self._descriptor)
        modes[_LOCAL] &= ~(termios.ICANON | termios.ECHO)  # ISIG stays: Ctrl-C and Ctrl-Z still send signals
        modes[_CONTROL][termios.VMIN], modes[_CONTROL][termios.VTIME] = 1, 0
        termios.tcsetattr(self._descriptor, termios.TCSANOW, modes)
        self._entered = True

    def _restore_modes(self) -> None:
        """Restore the modes at once (TCSANOW): waiting for the output of a stopped terminal (Ctrl-S) has no time limit."""
        if self._entered and self._before is not None and self._is_foreground():
            try:
                termios.tcsetattr(self._descriptor, termios.TCSANOW, self._before)
            except (OSError, termios.error):
                pass  # the terminal hung up
        self._entered = False
