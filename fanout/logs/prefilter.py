"""Log pre-filter: a log chunk without digits and duplicates, cached for every keyword search.

Most lines of a training log differ only in their digits. Without them, a megabyte is a few distinct lines, and a search
for a hundred keywords in these is fast.
"""

from __future__ import annotations

from typing import NamedTuple

DIGITS = b"0123456789.+-"
LONGEST_PERIOD = 4096  # bytes of the longest period of a repeating text that is detected


class ChunkDigest(NamedTuple):
    """A digested chunk: the distinct ``lines`` without digits, joined as ``text``; ``ends`` counts line ends."""

    lines: frozenset[bytes]
    text: bytes
    ends: int


def digest_chunk(data: bytes) -> ChunkDigest:
    """Return the digest of ``data``. A keyword without digits that is in ``data`` is in its ``text``."""
    global _latest
    for known, found in _latest:
        if known is data:
            return found
    lines, ends = _distinct_lines(strip_digits(data))
    found = ChunkDigest(lines=lines, text=b"\n".join(lines), ends=ends)
    _latest = ((data, found), _latest[0])
    return found


#: All subscribers ask for the same chunk, one directly after the other. The cache compares identity, because a hash of
#: all bytes would cost as much as the search.
_latest: tuple[tuple[bytes, ChunkDigest], ...] = ((b"", ChunkDigest(frozenset((b"",)), b"", 0)),)


def strip_digits(word: bytes) -> bytes:
    """Return a keyword without digits, as it appears in a digest."""
    return word.translate(None, DIGITS)


def _distinct_lines(text: bytes) -> tuple[frozenset[bytes], int]:
    """Return the distinct lines and the number of line ends.

    A flood is a print in a loop. If the text repeats from its first whole line on, one period has all distinct lines.
    """
    begin = text.find(b"\n") + 1
    end = text.find(b"\n", begin)
    turn = text.find(text[begin - 1 : end + 1], end, end + LONGEST_PERIOD) + 1 - begin if 0 < begin <= end else 0
    once = text[begin : begin + turn]
    times = (len(text) - begin) // turn if turn > 0 else 0
    if times < 3 or not (text.startswith(once * 3, begin) and text.startswith(once * times, begin)):
        lines = text.split(b"\n")
        return frozenset(lines), len(lines) - 1
    turns, rest = once[:-1].split(b"\n"), text[begin + times * turn :].split(b"\n")
    return frozenset((text[: begin - 1], *turns, *rest)), times * len(turns) + len(rest)
