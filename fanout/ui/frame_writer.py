"""Frame writer: draw the new log lines and the block below them in one write to the terminal."""

from __future__ import annotations

import io
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from fanout.text.sanitize import sanitize_line
from fanout.ui.host_rows import Row
from fanout.ui.nonblocking_writer import NonblockingWriter
from fanout.ui.safe_writer import to_ascii

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_BEGIN, _END = "\x1b[?2026h\x1b[?25l", "\x1b[?25h\x1b[?2026l"  # synchronised update, cursor hidden

NEW_LINE = "\n"
LEAST_FILLER = 3  # rows


class FrameWriter:
    """Writer of frames: rich renders into a buffer, and one write sends the buffer to the terminal.

    The cursor is hidden only within a frame, so it stays visible if the launcher is killed.
    """

    def __init__(self, out: NonblockingWriter, *, colour: bool, unicode: bool) -> None:
        from rich.console import Console

        self._out = out
        self._buffer = io.StringIO()
        self._console: Console = Console(
            file=self._buffer,
            force_terminal=True,
            color_system="256" if colour else None,
            no_color=not colour,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
            _environ={},
        )
        self._unicode = unicode
        self._widths: list[int] = []  # of the rows of the block on screen
        self._block: list[Row] = []
        self._columns = 0
        self._drawn = ""  # the block on screen, as text
        self._elsewhere = False
        self._filler = 0  # empty rows above the block: it got smaller, and its last row stays where it was

    def abandon_block(self) -> None:
        """Leave the block on the screen, because another process writes to the terminal now; continue below it."""
        self._elsewhere = self._elsewhere or bool(self._widths)
        self._widths, self._block, self._drawn, self._filler = [], [], "", 0

    def write_frame(self, log: str, block: list[Row], columns: int) -> None:
        """Erase the block, write the log lines and draw the block again; write nothing if nothing changed."""
        same = block == self._block and columns == self._columns
        if same and not log:
            return
        erase = self._build_erase(columns)
        self._filler = self._count_filler(log, block)
        if not same:
            texts = [self._build_text(row, columns) for row in block]
            self._drawn, self._widths = self._render_rows(texts, columns), [text.cell_len for text in texts]
            self._block, self._columns = block, columns
        self._out.write(f"{_BEGIN}{erase}{log}{NEW_LINE * self._filler}{self._drawn}{_END}")

    def _count_filler(self, log: str, block: list[Row]) -> int:
        """Return the empty rows between the log and the block; new lines of the log take their place.

        A block that gets smaller by a row or two may move; one that closes help keeps its last row where it was.
        """
        if not block or not self._block:
            return 0
        less = len(self._block) - len(block)
        filler = self._filler + less if less < 0 or less >= LEAST_FILLER else self._filler
        return max(0, filler - log.count("\n"))

    def _build_text(self, row: Row, columns: int) -> Text:
        from rich.text import Text

        # adjacent cells of one style in one piece: rich takes most of its time for each piece, and a grid has hundreds
        pieces = [("".join(cell for cell, _ in same), style) for style, same in groupby(row, key=itemgetter(1))]
        cells = [(sanitize_line(piece, colour=False), style) for piece, style in pieces]
        if not self._unicode:
            cells = [(to_ascii(cell), style) for cell, style in cells]
        text = Text.assemble(*cells, end="", no_wrap=True)
        text.truncate(max(1, columns - 1), overflow="ellipsis" if self._unicode else "crop")
        return text

    def _render_rows(self, texts: list[Text], columns: int) -> str:
        """Return the rows as text; the cursor stays at the end of the last row."""
        self._console.width = columns
        for at, text in enumerate(texts):
            self._console.print(text, end="\n" if at < len(texts) - 1 else "", soft_wrap=True)
        rendered = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return rendered

    def _build_erase(self, columns: int) -> str:
        """Return the sequence that erases the block. It counts rows that wrapped in a narrower terminal."""
        if self._elsewhere:
            self._elsewhere = False
            return "\r\n"
        height = sum(max(1, -(-width // columns)) for width in self._widths) + (self._filler if self._widths else 0)
        up = f"\x1b[{height - 1}A" if height > 1 else ""
        return f"\r{up}\x1b[J"
