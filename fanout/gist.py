"""What a piece of log comes to, worked out once for all that look for words in it.

Lines of a training log differ in their figures alone: without them, a megabyte of it is a handful of lines, in which a
hundred words are found or not found in no time.
"""

from __future__ import annotations

from typing import NamedTuple

FIGURES = b"0123456789.+-"
LONGEST_TURN = 4096  # bytes that a loop may print a turn to be noticed


class Gist(NamedTuple):
    """``lines`` are all that differ, without their figures; ``text`` is those one below the other; ``ends`` of lines."""

    lines: frozenset[bytes]
    text: bytes
    ends: int


def gist(data: bytes) -> Gist:
    """The gist of bytes; a word without figures that is in them is in its text."""
    global _latest
    for known, found in _latest:
        if known is data:
            return found
    lines, ends = _distinct(bare(data))
    found = Gist(lines=lines, text=b"\n".join(lines), ends=ends)
    _latest = ((data, found), _latest[0])
    return found


#: Whoever is told of the same piece asks at once, one after the other. Known again as the same object: a hash of all its
#: bytes would cost as much as the search.
_latest: tuple[tuple[bytes, Gist], ...] = ((b"", Gist(frozenset((b"",)), b"", 0)),)


def bare(word: bytes) -> bytes:
    """A word as it stands in a gist."""
    return word.translate(None, FIGURES)


def _distinct(text: bytes) -> tuple[frozenset[bytes], int]:
    """The lines that differ, and how many end. A flood is a print in a loop: where the text repeats itself every few
    lines, from the first whole line on, one turn has them all, and nobody needs to look at each."""
    begin = text.find(b"\n") + 1
    end = text.find(b"\n", begin)
    turn = text.find(text[begin - 1 : end + 1], end, end + LONGEST_TURN) + 1 - begin if 0 < begin <= end else 0
    once = text[begin : begin + turn]
    times = (len(text) - begin) // turn if turn > 0 else 0
    if times < 3 or not (text.startswith(once * 3, begin) and text.startswith(once * times, begin)):
        lines = text.split(b"\n")
        return frozenset(lines), len(lines) - 1
    turns, rest = once[:-1].split(b"\n"), text[begin + times * turn :].split(b"\n")
    return frozenset((text[: begin - 1], *turns, *rest)), times * len(turns) + len(rest)
