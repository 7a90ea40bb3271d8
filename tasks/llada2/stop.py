"""Being asked to stop: SIGUSR1, SIGTERM and SIGINT are remembered, and honoured at the end of a step by all ranks."""

from __future__ import annotations

import signal
from types import FrameType

# The order is the order of precedence when different ranks were asked differently.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """``votes()`` is this rank's part of a sum over ranks; ``decide`` reads the sum."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def install(self) -> None:
        """From now on the signals ask instead of killing; a second Ctrl-C kills."""
        for number in SIGNALS:
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._seen.add(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)

    def votes(self) -> list[float]:
        """One number a signal: 1 where this rank has seen it."""
        return [float(number in self._seen) for number in SIGNALS]

    @staticmethod
    def decide(votes: list[float]) -> signal.Signals | None:
        """The signal that stops everyone, given the votes' sum over all ranks."""
        return next((number for number, count in zip(SIGNALS, votes, strict=True) if count), None)


def exit_code(number: signal.Signals) -> int:
    """SIGUSR1 is a polite request that was carried out (0); the others end as signals do (128 + n)."""
    return 0 if number == signal.SIGUSR1 else 128 + number
