"""Check of a number against its range in the option table. Pure."""

from __future__ import annotations

from fanout.model.option_table import BOUNDS


def range_error(name: str, value: float) -> str:
    """Return the error as the end of a sentence, or "" if the value is within the bounds of the option ``name``."""
    least, most = BOUNDS[name]
    if least <= value <= most:  # false for nan
        return ""
    shown = f"{value:.15g}" if isinstance(value, float) else str(value)
    return f"must be from {format_bound(least)} to {format_bound(most)}, not {shown if len(shown) < 25 else shown[:20] + '…'}"


def format_bound(bound: float) -> str:
    """Return a bound without an empty fraction: 5 for 5.0."""
    return f"{bound:.0f}" if bound == int(bound) else f"{bound:g}"
