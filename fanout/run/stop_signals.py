"""Signals that stop a launcher, and those of them that it ignores."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_INSTEAD = signal.SIGUSR2  # ``fanout stop`` sends it to a launcher that ignores SIGTERM
Handler = Callable[[int, FrameType | None], None]


def filter_handled_signals(numbers: Iterable[int]) -> list[int]:
    """Return the signals that were not ignored when this process started (nohup, ``trap '' INT``, ``&`` in a script)."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def choose_stop_signal() -> int:
    """Return the signal that makes this launcher end its run."""
    return int(signal.SIGTERM if filter_handled_signals([signal.SIGTERM]) else STOP_INSTEAD)
