"""Facts about the live view itself that its rows show: the position of a replay. Pure values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayPosition:
    """Position of a replay and length of the run, in seconds. ``speed`` is a factor, infinite for ``max``."""

    at: float
    total: float
    speed: float = 1.0
    paused: bool = False
