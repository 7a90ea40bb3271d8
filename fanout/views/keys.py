"""The keyboard while a run is watched: keys without Enter and without echo, and the terminal as it was when we leave.

Only a terminal whose foreground is ours is touched or read: in the background, behind a pipe or after a hang-up there
are no keys, and the job is never stopped for it (SIGTTIN, SIGTTOU). Ctrl-Z first gives the terminal back; whoever is
killed outright (SIGKILL) leaves that to the shell, which puts its terminal in order after a job that died of a signal.
"""

from __future__ import annotations

import os
import re
import select
import signal
import termios
from collections.abc import Callable
from types import FrameType
from typing import Any

_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;<>=?]*[ -/]*[@-~]|O.|[^\[O])")  # arrows, the mouse, Alt and a key: none of ours
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;<>=?]*|O)?\Z")
_LOCAL = 3  # place of the local modes in what tcgetattr returns
_CONTROL = 6


class Keyboard:
    """The terminal behind ``descriptor``. ``poll`` never waits; after ``close`` nothing is read or changed any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before: list[Any] | None = None  # the modes to go back to
        self._entered = False
        self._over = False
        self._held = ""  # the beginning of an escape sequence
        self.away = False  # the terminal's foreground is somebody else's
        self.asked_to_stop = False  # Ctrl-Z: whoever draws makes room first, then calls ``stop``
        self._handlers: dict[int, Any] = {}
        handlers: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGTSTP: self._heard_stop,
            signal.SIGCONT: self._heard_continue,
        }
        for number, handler in handlers.items():
            if signal.getsignal(number) is not signal.SIG_IGN:  # a parent that ignores it wants us to
                self._handlers[number] = signal.signal(number, handler)

    def poll(self) -> str:
        """The keys pressed since the last call."""
        if self.look_away() or self._over:
            return ""
        try:
            if not self._entered:
                self._enter()
            if not select.select([self._descriptor], [], [], 0)[0]:
                held, self._held = self._held, ""
                return held if held == "\x1b" else ""  # it was the Escape key itself
            data = os.read(self._descriptor, 1024)
        except (OSError, termios.error):
            data = b""
        if not data:
            self._over = True  # hung up
        text = self._held + data.decode("utf-8", "replace")
        unfinished = _UNFINISHED.search(text)
        self._held = unfinished[0][:64] if unfinished else ""
        return _SEQUENCE.sub("", text[: unfinished.start()] if unfinished else text)

    def look_away(self) -> bool:
        """Has somebody else the terminal's foreground now?"""
        self.away = not self._foreground()
        return self.away

    def stop(self) -> None:
        """Ctrl-Z, carried out: the terminal goes back, and we stop until the job is continued."""
        self.asked_to_stop = False
        self._leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._heard_stop)

    def close(self) -> None:
        """The terminal as it was found; safe to call twice."""
        self._leave()
        self._over = True
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _heard_stop(self, number: int, frame: FrameType | None) -> None:
        self.asked_to_stop = True

    def _heard_continue(self, number: int, frame: FrameType | None) -> None:
        self._entered = False  # the shell has had the terminal meanwhile

    def _foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:
            return False

    def _enter(self) -> None:
        modes = termios.tcgetattr(self._descriptor)
        if self._before is None or modes[_LOCAL] & termios.ICANON:
            self._before = termios.tcgetattr(self._descriptor)
        modes[_LOCAL] &= ~(termios.ICANON | termios.ECHO)  # ISIG stays: Ctrl-C and Ctrl-Z are signals as ever
        modes[_CONTROL][termios.VMIN], modes[_CONTROL][termios.VTIME] = 1, 0
        termios.tcsetattr(self._descriptor, termios.TCSANOW, modes)
        self._entered = True

    def _leave(self) -> None:
        """At once: to wait until a stopped terminal (Ctrl-S) has taken its output could last for ever."""
        if self._entered and self._before is not None and self._foreground():
            try:
                termios.tcsetattr(self._descriptor, termios.TCSANOW, self._before)
            except (OSError, termios.error):
                pass  # it has hung up
        self._entered = False
