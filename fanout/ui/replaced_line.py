"""Replaced line: one line on stderr that each call replaces. It is written in a terminal only, never to a pipe."""

from __future__ import annotations

from typing import TextIO

from fanout.text.sanitize import sanitize_line
from fanout.text.table import cut_text
from fanout.ui.safe_writer import unwrap_stream


class ReplacedLine:
    """The line. ``is_on``: stderr is a terminal that still exists."""

    def __init__(self, stderr: TextIO, columns: int) -> None:
        self._stderr = unwrap_stream(stderr)
        self._columns = columns
        self._text = ""
        self.is_on = stderr.isatty()

    def show(self, text: str) -> None:
        """Show the text, cut to the width of the terminal."""
        text = cut_text(sanitize_line(text, colour=False), self._columns - 1)
        if self.is_on and text != self._text:
            self._text = text
            self._write(f"\r\x1b[K{text}")

    def clear(self) -> None:
        """Remove the line."""
        if self._text:
            self._text = ""
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        try:
            self._stderr.write(text)
            self._stderr.flush()
        except (OSError, ValueError):
            self.is_on = False  # the terminal closed
