"""Signals of the keeper: they wake its loop, which handles them.

A handler may run at any moment, even between the fork of train.sh and the assignment of its pid. So it only notes the
signal.
"""

from __future__ import annotations

import os
import signal

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class SignalInbox:
    """The signals that arrived; ``descriptor`` becomes readable with each of them, and with SIGCHLD."""

    def __init__(self) -> None:
        self.descriptor, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._name = ""

    def install_handlers(self) -> None:
        """Note the signals that end a run, and wake up on SIGCHLD."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in ENDING:
            signal.signal(number, self._note_signal)

    def read_wakeups(self) -> None:
        """Empty the pipe."""
        os.read(self.descriptor, 4096)

    def take_signal(self) -> str:
        """Return the name of a signal that is not handled yet, "" if there is none."""
        name, self._name = self._name, ""
        return name

    def _note_signal(self, number: int, frame: object) -> None:
        self._name = signal.Signals(number).name
