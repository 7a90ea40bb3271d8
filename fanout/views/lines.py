"""Bytes of one stream, in any chunking, to lines: the same lines whatever the chunking.

A program that draws a progress bar rewrites its line (``\\r``), and nested bars go down and up again
(``\\n … ESC [ A``), some of them without a ``\\r`` in every row. So a stream has a small screen of rows: a row that is
rewritten is *moving* and is no line of the log until text goes on below it; an ordinary row is a line as soon as it
ends.

A line that has not ended can be taken early by ``settle``; what follows of it then comes as its continuation and
repeats nothing. Bytes stay bytes until a line is taken, so that a character may be split over chunks; invalid ones
become U+FFFD. Rows hold no more than ``limit`` bytes; what is beyond is counted. Text is *not* made harmless here.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from typing import NamedTuple

LIMIT = 8192
ROWS = 8

_MOVES = rb"\x1b\[(?P<count>\d{0,3})(?P<final>[ABEFGK])"
_TOKEN = re.compile(rb"(?P<text>[^\r\n\x1b]+)|(?P<cr>\r)|(?P<lf>\n)|" + _MOVES + rb"|(?P<esc>\x1b)")
_UNFINISHED = re.compile(rb"\x1b(?:\[\d{0,3})?\Z")
_SPECIAL = re.compile(rb"\r|\x1b\[\d{0,3}[ABEFGK]|\x1b(?:\[\d{0,3})?\Z")
_CUT_COLOUR = re.compile(rb"\x1b(?:\[[0-9;:]*)?\Z")


class Line(NamedTuple):
    """One line, or a part of one: ``continues`` one taken early; ``more`` bytes of it are not in ``text``.

    Or a block: ``many`` whole lines at once, with ``\\n`` between them.
    """

    text: str
    continues: bool = False
    more: int = 0
    many: int = 1


@dataclass(slots=True)
class _Row:
    text: bytes = b""
    more: int = 0  # bytes beyond the limit
    taken: bool = False  # a part of it was given out by settle
    rewound: bool = False  # the next text replaces what is here
    moving: bool = False  # it was rewritten at least once


class Lines:
    """The assembler of one stream. With ``blocks``, ordinary lines that came together stay together: a flood of lines
    costs little until somebody has to look at each."""

    __slots__ = ("_blocks", "_carry", "_cursor", "_highest", "_limit", "_rows")

    def __init__(self, *, limit: int = LIMIT, blocks: bool = False) -> None:
        self._limit = limit
        self._blocks = blocks
        self._rows = [_Row()]
        self._cursor = 0
        self._highest = 0  # the topmost row that the cursor was on since the last settle
        self._carry = b""  # the beginning of an escape sequence

    def feed(self, data: bytes) -> list[Line]:
        """The lines that ended with these bytes."""
        row = self._rows[0]
        plain = not (b"\r" in data or b"\x1b" in data) or not _SPECIAL.search(data)
        if plain and len(self._rows) == 1 and not (self._carry or row.rewound or row.moving):
            return self._feed_plain(row, data)
        out: list[Line] = []
        data = self._carry + data
        unfinished = _UNFINISHED.search(data)
        self._carry = unfinished.group() if unfinished else b""
        for token in _TOKEN.finditer(data, 0, len(data) - len(self._carry)):
            self._obey(token, out)
        return out

    def settle(self) -> list[Line]:
        """Called now and then (twice a second): what need not wait any longer.

        Rows that the cursor has left above it since the last call, and the beginning of a line that has not ended.
        """
        out: list[Line] = []
        if self._highest > 0:
            self._commit(self._highest, out)
        self._highest = self._cursor
        row = self._rows[self._cursor]
        if len(self._rows) == 1 and not (row.more or row.moving or row.rewound):
            whole = _whole(row.text)
            if whole:
                out.append(Line(_decoded(row.text[:whole]), row.taken))
                row.text, row.taken = row.text[whole:], True
        return out

    def finish(self) -> list[Line]:
        """The stream ended: everything that is left."""
        out: list[Line] = []
        if self._carry:
            self._write(self._carry)
            self._carry = b""
        self._commit(len(self._rows), out)
        return out

    @property
    def moving(self) -> str:
        """The progress bars as they stand now, the outermost first, joined; "" where there is none."""
        bars = [_decoded(row.text).strip() for row in self._rows if row.moving]
        return "  ".join(bar for bar in bars if bar)

    @property
    def waiting(self) -> bool:
        """Is there anything that ``settle`` might give out?"""
        return self._cursor > 0 or bool(self._rows[0].text)

    def _feed_plain(self, row: _Row, data: bytes) -> list[Line]:
        first, *rest = data.split(b"\n")
        self._append(row, first)
        if not rest:
            return []
        out = [] if row.taken and not row.text else [_line(row)]
        last = rest.pop()
        limit = self._limit
        if max(map(len, rest), default=0) > limit:
            out += [_line(_capped(text, limit)) for text in rest]
        elif rest:  # decoded in one go, which takes half the time: no character reaches over an end of line
            text = _decoded(b"\n".join(rest))
            out += [Line(text, many=len(rest))] if self._blocks else map(Line, text.split("\n"))
        self._rows = [_capped(last, limit)]
        return out

    def _obey(self, token: re.Match[bytes], out: list[Line]) -> None:
        row = self._rows[self._cursor]
        match token.lastgroup:
            case "text" | "esc":
                self._write(token.group())
            case "cr":
                row.rewound = True
            case "lf":
                self._down(out)
            case _:
                self._move(row, int(token["count"] or b"1"), token["count"], token["final"])

    def _write(self, text: bytes) -> None:
        row = self._rows[self._cursor]
        if row.rewound:
            row.text, row.more, row.rewound, row.moving = b"", 0, False, True
        self._append(row, text)

    def _append(self, row: _Row, text: bytes) -> None:
        room = self._limit - len(row.text)
        if len(text) <= room:
            row.text += text
        else:
            row.text += text[:room]
            row.more += len(text) - room

    def _down(self, out: list[Line]) -> None:
        row = self._rows[self._cursor]
        if self._cursor < len(self._rows) - 1:
            self._cursor += 1
            self._rows[self._cursor].rewound = True
        elif row.moving:
            self._rows.append(_Row())
            self._cursor += 1
            if len(self._rows) > ROWS:
                self._commit(1, out)
        else:
            self._commit(len(self._rows), out, ended=True)

    def _move(self, row: _Row, count: int, written: bytes, final: bytes) -> None:
        if final == b"K":
            if row.rewound or written == b"2":
                row.text, row.more = b"", 0
            return
        if final in (b"A", b"F"):
            self._remember(count - self._cursor)
            self._cursor = max(0, self._cursor - count)
            self._highest = min(self._highest, self._cursor)
        elif final in (b"B", b"E"):
            self._cursor = min(len(self._rows) - 1, self._cursor + count)
        if final != b"G" or count <= 1:
            self._rows[self._cursor].rewound = True

    def _remember(self, count: int) -> None:
        """The cursor goes above all rows: what was a line there is a bar from its second drawing on."""
        count = min(count, ROWS - len(self._rows))
        if count > 0:
            self._rows[:0] = [_Row(rewound=True, moving=True) for _ in range(count)]
            self._cursor += count
            self._highest += count

    def _commit(self, count: int, out: list[Line], *, ended: bool = False) -> None:
        """The topmost rows become lines. An erased bar is none; an empty line is one only where it ended."""
        for row in self._rows[:count]:
            if row.text.strip() if row.moving else (row.text or (ended and not row.taken)):
                out.append(_line(row))
        self._rows = self._rows[count:] or [_Row()]
        self._cursor = max(0, self._cursor - count)
        self._highest = max(0, self._highest - count)


def _line(row: _Row) -> Line:
    if not row.more:
        return Line(_decoded(row.text.rstrip() if row.moving else row.text), row.taken)
    whole = _whole(row.text)
    return Line(_decoded(row.text[:whole]), row.taken, row.more + len(row.text) - whole)


def _capped(text: bytes, limit: int) -> _Row:
    return _Row(text=text[:limit], more=max(0, len(text) - limit))


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _whole(text: bytes) -> int:
    """How many bytes can be shown without cutting a character or a colour sequence in two."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(text)
    text = text[: len(text) - len(decoder.getstate()[0])]
    unfinished = _CUT_COLOUR.search(text)
    return unfinished.start() if unfinished else len(text)
