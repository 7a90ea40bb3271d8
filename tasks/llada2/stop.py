"""Stop by a signal: SIGUSR1, SIGTERM and SIGINT are recorded, and all ranks obey at the end of a step."""

from __future__ import annotations

import signal
from types import FrameType

RESTART_CODE = 75  # "saved, restart me": EX_TEMPFAIL of sysexits.h, as fanout and schedulers read it

# The order is the order of precedence if ranks received different signals.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """``votes()`` is this rank's part of a sum over ranks; ``decide`` reads the sum."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def install(self) -> None:
        """Install handlers that record the signals instead of dying; a second Ctrl-C kills."""
        for number in SIGNALS:
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._seen.add(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)

    def votes(self) -> list[float]:
        """Return one number for each signal: 1 if this rank received it."""
        return [float(number in self._seen) for number in SIGNALS]

    @staticmethod
    def decide(votes: list[float]) -> signal.Signals | None:
        """Return the signal that stops all ranks, given the votes' sum over all ranks."""
        return next((number for number, count in zip(SIGNALS, votes, strict=True) if count), None)


def exit_code(number: signal.Signals) -> int:
    """Return RESTART_CODE for SIGUSR1, a request to save and start again; the others end as signals do (128 + n)."""
    return RESTART_CODE if number == signal.SIGUSR1 else 128 + number
