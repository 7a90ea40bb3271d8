"""Host count: the value of ``--nnodes``, ``N`` or ``MIN:MAX`` as torchrun writes it. Pure."""

from __future__ import annotations

from fanout.model.errors import UsageError
from fanout.model.frozen import frozen


@frozen
class HostCount:
    """A run starts on ``most`` hosts, and continues after failures with at least ``least``."""

    least: int
    most: int


def parse_host_count(text: str) -> HostCount:
    """Parse ``4`` or ``2:4``. Raises UsageError."""
    low, colon, high = text.partition(":")
    parts = (low, high) if colon else (low, low)
    if not all(part.isascii() and part.isdigit() and len(part) < 8 for part in parts):
        raise UsageError(f"--nnodes {text}: must be a number of hosts, or MIN:MAX", hint="--nnodes 4, or --nnodes 2:4")
    least, most = map(int, parts)
    if not 1 <= least <= most:
        raise UsageError(f"--nnodes {text}: MIN must be at least 1 and at most MAX", hint="--nnodes 2:4")
    return HostCount(least=least, most=most)
