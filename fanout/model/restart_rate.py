"""Restart rate: the value of ``--restart-rate``, ``N/TIME`` or ``off``. Pure."""

from __future__ import annotations

from fanout.model.errors import UsageError
from fanout.model.frozen import frozen
from fanout.text.parse_units import parse_duration, write_duration


@frozen
class RestartRate:
    """A run ends after ``starts`` starts within ``seconds``, although its budget of restarts is left."""

    starts: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.starts} in {write_duration(self.seconds)}"


def parse_restart_rate(text: str) -> RestartRate | None:
    """Parse ``5/30m``; ``off`` is None. Raises UsageError."""
    if text == "off":
        return None
    starts, slash, time = text.partition("/")
    seconds = parse_duration(time) if slash else None
    if not (starts.isascii() and starts.isdigit() and len(starts) < 8 and int(starts) > 1 and seconds):
        raise UsageError(
            f"--restart-rate {text}: must be a number of starts (2 or more) and a time, or off",
            hint="--restart-rate 5/30m, or --restart-rate off",
        )
    return RestartRate(starts=int(starts), seconds=seconds)
