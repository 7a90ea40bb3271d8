"""Line splitter: split the bytes of one stream into lines; the result does not depend on the chunks.

``LineAssembler`` returns the lines as a terminal shows them, for the views. ``LineBuffer`` and ``split_file_lines``
return the numbered lines of the log file, for searches: every state of a progress bar is a text of its own.

A progress bar rewrites its line (``\\r``). Nested bars also move down and up (``\\n … ESC [ A``), and some rows have no
``\\r``. So a stream has a small screen of rows. A row that was rewritten is *moving*: it becomes a log line only when
text follows below it. An ordinary row becomes a line as soon as it ends.

A line that has not ended can be returned early; the rest then comes as its continuation and repeats nothing. Bytes are
decoded only when a line is complete, because chunks may split a character; invalid bytes become U+FFFD. A row holds at
most ``limit`` bytes, and the bytes beyond it are counted. The text is *not* sanitised here.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

LIMIT = 8192
ROWS = 8

_MOVES = rb"\x1b\[(?P<count>\d{0,3})(?P<final>[ABEFGK])"
_TOKEN = re.compile(rb"(?P<text>[^\r\n\x1b]+)|(?P<cr>\r)|(?P<lf>\n)|" + _MOVES + rb"|(?P<esc>\x1b)")
_UNFINISHED = re.compile(rb"\x1b(?:\[\d{0,3})?\Z")
_SPECIAL = re.compile(rb"\r|\x1b\[\d{0,3}[ABEFGK]|\x1b(?:\[\d{0,3})?\Z")
_END = re.compile(rb"[\r\n]")
_CUT_COLOUR = re.compile(rb"\x1b(?:\[[0-9;:]*)?\Z")


class SplitLine(NamedTuple):
    """Line, part of a line, or block of ``many`` whole lines with ``\\n`` between them.

    ``continues`` means that the first part was returned early. ``more`` is the number of bytes missing in ``text``.
    """

    text: str
    continues: bool = False
    more: int = 0
    many: int = 1


@dataclass(slots=True)
class _ScreenRow:
    text: bytes = b""
    more: int = 0  # bytes beyond the limit
    taken: bool = False  # a part of it was returned early
    rewound: bool = False  # the next text replaces this text
    moving: bool = False  # it was rewritten at least once


class LineAssembler:
    """Line assembler of one stream. With ``blocks``, ordinary lines that arrive together stay in one block.

    A flood of lines then costs little until each line must be examined.
    """

    __slots__ = ("_blocks", "_carry", "_cursor", "_highest", "_limit", "_rows")

    def __init__(self, *, limit: int = LIMIT, blocks: bool = False) -> None:
        self._limit = limit
        self._blocks = blocks
        self._rows = [_ScreenRow()]
        self._cursor = 0
        self._highest = 0  # the topmost row of the cursor since the last early return
        self._carry = b""  # an incomplete escape sequence

    def add_bytes(self, data: bytes) -> list[SplitLine]:
        """Add bytes and return the lines that they complete."""
        row = self._rows[0]
        plain = not (b"\r" in data or b"\x1b" in data) or not _SPECIAL.search(data)
        if plain and len(self._rows) == 1 and not (self._carry or row.rewound or row.moving):
            return self._add_plain_bytes(row, data)
        out: list[SplitLine] = []
        data = self._carry + data
        unfinished = _UNFINISHED.search(data)
        self._carry = unfinished.group() if unfinished else b""
        for token in _TOKEN.finditer(data, 0, len(data) - len(self._carry)):
            self._apply_token(token, out)
        return out

    def take_partial(self) -> list[SplitLine]:
        """Return what need not wait longer; call this twice a second.

        These are rows above the cursor since the last call, and the beginning of a line that has not ended.
        """
        out: list[SplitLine] = []
        if self._highest > 0:
            self._commit_rows(self._highest, out)
        self._highest = self._cursor
        row = self._rows[self._cursor]
        if len(self._rows) == 1 and not (row.more or row.moving or row.rewound):
            whole = _find_safe_length(row.text)
            if whole:
                out.append(SplitLine(_decode_text(row.text[:whole]), row.taken))
                row.text, row.taken = row.text[whole:], True
        return out

    def take_rest(self) -> list[SplitLine]:
        """Return all remaining lines at the end of the stream."""
        out: list[SplitLine] = []
        if self._carry:
            self._write_text(self._carry)
            self._carry = b""
        self._commit_rows(len(self._rows), out)
        return out

    @property
    def bar_text(self) -> str:
        """Return the current progress bars, the outermost first, joined by spaces; "" if there are none."""
        bars = [_decode_text(row.text).strip() for row in self._rows if row.moving]
        return "  ".join(bar for bar in bars if bar)

    @property
    def has_pending(self) -> bool:
        """Return whether there is text that could be returned early."""
        return self._cursor > 0 or bool(self._rows[0].text)

    def _add_plain_bytes(self, row: _ScreenRow, data: bytes) -> list[SplitLine]:
        first, *rest = data.split(b"\n")
        self._append_text(row, first)
        if not rest:
            return []
        out = [] if row.taken and not row.text else [_to_line(row)]
        last = rest.pop()
        limit = self._limit
        if max(map(len, rest), default=0) > limit:
            out += [_to_line(_cut_row(text, limit)) for text in rest]
        elif rest:  # decode all at once: it takes half the time, and a line end never splits a character
            text = _decode_text(b"\n".join(rest))
            out += [SplitLine(text, many=len(rest))] if self._blocks else map(SplitLine, text.split("\n"))
        self._rows = [_cut_row(last, limit)]
        return out

    def _apply_token(self, token: re.Match[bytes], out: list[SplitLine]) -> None:
        row = self._rows[self._cursor]
        match token.lastgroup:
            case "text" | "esc":
                self._write_text(token.group())
            case "cr":
                row.rewound = True
            case "lf":
                self._move_down(out)
            case _:
                self._move_cursor(row, int(token["count"] or b"1"), token["count"], token["final"])

    def _write_text(self, text: bytes) -> None:
        row = self._rows[self._cursor]
        if row.rewound:
            row.text, row.more, row.rewound, row.moving = b"", 0, False, True
        self._append_text(row, text)

    def _append_text(self, row: _ScreenRow, text: bytes) -> None:
        free = self._limit - len(row.text)
        if len(text) <= free:
            row.text += text
        else:
            row.text += text[:free]
            row.more += len(text) - free

    def _move_down(self, out: list[SplitLine]) -> None:
        row = self._rows[self._cursor]
        if self._cursor < len(self._rows) - 1:
            self._cursor += 1
            self._rows[self._cursor].rewound = True
        elif row.moving:
            self._rows.append(_ScreenRow())
            self._cursor += 1
            if len(self._rows) > ROWS:
                self._commit_rows(1, out)
        else:
            self._commit_rows(len(self._rows), out, ended=True)

    def _move_cursor(self, row: _ScreenRow, count: int, written: bytes, final: bytes) -> None:
        if final == b"K":
            if row.rewound or written == b"2":
                row.text, row.more = b"", 0
            return
        if final in (b"A", b"F"):
            self._insert_rows(count - self._cursor)
            self._cursor = max(0, self._cursor - count)
            self._highest = min(self._highest, self._cursor)
        elif final in (b"B", b"E"):
            self._cursor = min(len(self._rows) - 1, self._cursor + count)
        if final != b"G" or count <= 1:
            self._rows[self._cursor].rewound = True

    def _insert_rows(self, count: int) -> None:
        """Add rows on top when the cursor moves above all rows: a line there is redrawn, so it is a progress bar."""
        count = min(count, ROWS - len(self._rows))
        if count > 0:
            self._rows[:0] = [_ScreenRow(rewound=True, moving=True) for _ in range(count)]
            self._cursor += count
            self._highest += count

    def _commit_rows(self, count: int, out: list[SplitLine], *, ended: bool = False) -> None:
        """Turn the topmost rows into lines, except erased bars, and empty rows that did not end."""
        for row in self._rows[:count]:
            if row.text.strip() if row.moving else (row.text or (ended and not row.taken)):
                out.append(_to_line(row))
        self._rows = self._rows[count:] or [_ScreenRow()]
        self._cursor = max(0, self._cursor - count)
        self._highest = max(0, self._highest - count)


class LineBuffer:
    """Buffer of the unfinished end of one stream. ``\\n`` and ``\\r`` end a text. Bytes beyond ``limit`` are dropped."""

    __slots__ = ("_limit", "_rest")

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._limit = limit
        self._rest = b""

    def add_bytes(self, data: bytes) -> bytes:
        """Add bytes and return all texts that have ended, with their ends; b"" if none has."""
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if not end:
            self._rest += data[: self._limit - len(self._rest)]
            return b""
        ended = self._rest + data[:end]
        self._rest = data[end : end + self._limit]
        return ended

    @property
    def unfinished(self) -> bytes:
        """Return the text that has not ended, at most ``limit`` bytes."""
        return self._rest


def join_chunks(chunks: Iterable[bytes], *, limit: int = LIMIT) -> Iterator[bytes]:
    """Yield the lines of a file that is read in chunks, with their line ends; a line keeps at most ``limit`` bytes."""
    rest = b""
    for data in chunks:
        *whole, last = data.split(b"\n")
        if whole:
            yield (rest + whole[0])[:limit] + b"\n"
            for line in whole[1:]:
                yield line[:limit] + b"\n"
            rest = b""
        rest = (rest + last)[:limit]
    if rest:
        yield rest


def split_rewritten(line: str) -> list[str]:
    """Return the texts of a line that a progress bar rewrote with ``\\r``, without the empty ones."""
    return [text for text in line.split("\r") if text] if "\r" in line else [line] if line else []


def split_file_lines(block: bytes, *, limit: int = LIMIT) -> Iterator[tuple[int, str]]:
    """Yield (number of line ends before it, text) of each text in ``block``; a text keeps at most ``limit`` bytes.

    A line of the file has several texts if it contains ``\\r``. Empty texts are left out.
    """
    for number, line in enumerate(block.split(b"\n")):
        for text in line.split(b"\r") if b"\r" in line else (line,):
            if text:
                yield number, _decode_text(text[:limit])


def split_last_lines(block: bytes, count: int, *, most: int) -> list[str]:
    """Return the last ``count`` texts of ``block`` from its last ``most`` bytes; a text that these bytes cut is left out."""
    tail = block[-most:]
    if len(tail) < len(block):
        cut = _END.search(tail)
        tail = tail[cut.end() :] if cut else b""
    return [text for _, text in split_file_lines(tail)][-count:]


def _to_line(row: _ScreenRow) -> SplitLine:
    if not row.more:
        return SplitLine(_decode_text(row.text.rstrip() if row.moving else row.text), row.taken)
    whole = _find_safe_length(row.text)
    return SplitLine(_decode_text(row.text[:whole]), row.taken, row.more + len(row.text) - whole)


def _cut_row(text: bytes, limit: int) -> _ScreenRow:
    return _ScreenRow(text=text[:limit], more=max(0, len(text) - limit))


def _decode_text(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def _find_safe_length(text: bytes) -> int:
    """Return how many bytes can be shown without splitting a character or a colour sequence."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(text)
    text = text[: len(text) - len(decoder.getstate()[0])]
    unfinished = _CUT_COLOUR.search(text)
    return unfinished.start() if unfinished else len(text)
