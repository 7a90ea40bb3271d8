"""Sizes and durations that a user types: parse them, and write a value in the same form. Pure."""

from __future__ import annotations

import re

DURATION_EXAMPLES = "90, 90s, 10m, 2h or 1d"
SIZE_EXAMPLES = "512MB, 4GB or 4GiB"

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


def write_duration(seconds: float) -> str:
    """Return a duration as a user types it: ``40s``, ``5m``, ``1h30m``, ``0.1s``; ``0`` for none."""
    if not seconds:
        return "0"
    parts, rest = [], seconds
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        count, rest = divmod(rest, size)
        parts += [f"{count:.0f}{unit}"] if count else []
    return "".join(parts + ([f"{rest:g}s"] if rest else []))


def write_size(count: int) -> str:
    """Return a size as a user types it, in the largest unit that divides it: ``4GB``, ``32MB``, ``0``."""
    for size, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count and count % size == 0:
            return f"{count // size}{unit}"
    return f"{count}"
