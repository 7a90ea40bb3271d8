"""What a piece of log comes to, worked out once for all that look for words in it.

Lines of a training log differ in their figures alone: without them, a megabyte of it is a handful of lines, in which a
hundred words are found or not found in no time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

FIGURES = b"0123456789.+-"


class Gist(NamedTuple):
    """``lines`` are all that differ, without their figures; ``text`` is those one below the other; ``ends`` of lines."""

    lines: frozenset[bytes]
    text: bytes
    ends: int


@lru_cache(maxsize=2)  # whoever is told of the same piece asks at once, one after the other
def gist(data: bytes) -> Gist:
    """The gist of bytes; a word without figures that is in them is in its text."""
    lines = data.translate(None, FIGURES).split(b"\n")
    distinct = frozenset(lines)
    return Gist(lines=distinct, text=b"\n".join(distinct), ends=len(lines) - 1)


def bare(word: bytes) -> bytes:
    """A word as it stands in a gist."""
    return word.translate(None, FIGURES)
