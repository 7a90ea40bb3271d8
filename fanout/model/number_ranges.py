"""Ranges of all numbers that the user can set by a flag, in the environment, or in fanout.toml. Pure."""

from __future__ import annotations

MAX_SECONDS = 2_000_000  # 23 days: poll() takes at most 2**31 - 1 milliseconds, and some waits add a margin
MAX_BYTES = 1 << 50

#: Keys are names of settings; for other flags, names of their values.
BOUNDS: dict[str, tuple[float, float]] = {
    "fanout": (1, 10_000),
    "connect_timeout": (0.1, MAX_SECONDS),
    "start_timeout": (1, MAX_SECONDS),
    "time_limit": (0, 1_000_000_000),  # 0: none
    "lease": (5, MAX_SECONDS),
    "grace": (0, MAX_SECONDS / 2),  # a stop waits for twice as long
    "last_words": (0, MAX_SECONDS),
    "hang_timeout": (1, MAX_SECONDS),
    "master_port": (1, 65_535),
    "nproc_per_node": (1, 10_000),
    "nnodes": (1, 1_000_000),
    "lines": (0, 1_000_000_000),
    "count": (1, 200),
    "speed": (0.001, 1_000_000),
}


def range_error(name: str, value: float) -> str:
    """Return the error as the end of a sentence, or "" if the value is within the bounds."""
    least, most = BOUNDS[name]
    if least <= value <= most:  # false for nan
        return ""
    shown = f"{value:.15g}" if isinstance(value, float) else str(value)
    return f"must be from {_format_bound(least)} to {_format_bound(most)}, not {shown if len(shown) < 25 else shown[:20] + '…'}"


def _format_bound(bound: float) -> str:
    return f"{bound:.0f}" if bound == int(bound) else f"{bound:g}"
