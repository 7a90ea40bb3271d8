"""Ranges of numbers that a user types, as in ``0-7`` and ``0,2-3``. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

_RANGE = re.compile(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*(?:/(\d{1,9}))?)?\s*", re.ASCII)


class NumberRange(NamedTuple):
    """One part of a list of ranges: the first and the last number as they are written, and the step."""

    first: str
    last: str
    step: int = 1

    @property
    def numbers(self) -> range:
        """Return the numbers; none if the range runs backwards or the step is 0."""
        return range(int(self.first), int(self.last) + 1, self.step) if self.step else range(0)


def parse_range(text: str) -> NumberRange | None:
    """Parse ``3``, ``0-7`` or ``0-8/2``; None if the text is not a range."""
    found = _RANGE.fullmatch(text)
    return NumberRange(found[1], found[2] or found[1], int(found[3] or 1)) if found is not None else None


def parse_ranges(text: str) -> list[range] | None:
    """Parse ranges with commas, such as ``0,2-3``; None if a part is not a range or runs backwards."""
    parts = [parse_range(part) for part in text.split(",")]
    ranges = [part.numbers for part in parts if part is not None]
    return ranges if len(ranges) == len(parts) and all(ranges) else None
