"""Signals from a caller of the Python API, in place of those of the operating system."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fanout.run.stop_signals import Handler


class CallerSignals:
    """Source of signals for the connections of one call. The process of the caller gets no signal handler.

    The newest handler gets a signal, as for signals of the operating system. A signal without a handler waits for one.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._handlers: list[Handler] = []
        self._waiting: list[int] = []

    def send_signal(self, number: int) -> None:
        """Send a signal, from any thread."""
        with self._lock:
            if self._handlers:
                self._handlers[-1](number, None)
            else:
                self._waiting.append(number)

    @contextmanager
    def use_handler(self, handler: Handler) -> Iterator[None]:
        """Send signals to ``handler`` during the ``with``."""
        with self._lock:
            self._handlers.append(handler)
            waiting, self._waiting = self._waiting, []
            for number in waiting:
                handler(number, None)
        try:
            yield
        finally:
            with self._lock:
                self._handlers.remove(handler)
