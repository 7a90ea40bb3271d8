"""Parsers of sizes and durations that a user types. Pure."""

from __future__ import annotations

import re

_NUMBER = r"(\d{1,15}(?:\.\d{1,15})?)"
_SIZE = re.compile(rf"{_NUMBER}\s*(?:([kmgt])(i?))?b?", re.ASCII | re.IGNORECASE)
_SECONDS = (604800, 86400, 3600, 60, 1)
_DURATION = re.compile(
    r"\s*".join(rf"(?:{_NUMBER}\s*{unit})?" for unit in ("[wW]", "[dD]", "[hH]", "m(?:in)?", "[sS]?")), re.ASCII
)
_LONGEST = 40  # characters


def parse_size(text: str) -> int | None:
    """Return a size in bytes; None if the text is not a size. ``4G`` and ``4GB`` are 4 * 1000**3, ``4GiB`` 4 * 1024**3."""
    found = _SIZE.fullmatch(text.strip()) if len(text) < _LONGEST else None
    if found is None:
        return None
    power = " KMGT".index(found[2].upper()) if found[2] else 0
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def parse_duration(text: str) -> float | None:
    """Return a duration in seconds; None if the text is not one. ``90``, ``90s``, ``10m``, ``1h30m``, ``1 h 30 min``, ``2w``."""
    found = _DURATION.fullmatch(text.strip()) if len(text) < _LONGEST else None
    if found is None or not any(found.groups()):
        return None
    return sum(float(number or 0) * seconds for number, seconds in zip(found.groups(), _SECONDS, strict=True))
