"""Texts about a restart: what the launcher does between two attempts, and which attempt follows. Pure."""

from __future__ import annotations

from fanout.model.events import Restarting
from fanout.text.sanitize import to_single_line
from fanout.text.units import format_duration


def describe_phase(restart: Restarting, now: float) -> str:
    """Return what the launcher does now, with the time left: ``waiting before the restart: 8 s left``."""
    left = _format_left(restart.until - now)
    match restart.phase:
        case "fence":
            return f"the lost host ends its part by itself: {left} left"
        case "backoff":
            return f"waiting before the restart: {left} left"
        case "start":
            return f"starting attempt {restart.attempt}"


def _format_left(seconds: float) -> str:
    """Return a countdown in whole seconds, so that it changes once a second."""
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 60 else format_duration(whole)


def describe_restart(restart: Restarting) -> list[str]:
    """Return the lines about a restart for the log: how the last attempt ended, and what changes."""
    return [to_single_line(restart.cause), f"        {to_single_line(restart.action)}"]
