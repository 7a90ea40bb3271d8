"""Refreshed output: text that a terminal shows in place and a pipe gets again and again, for ``fanout ps --watch``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TextIO

from fanout.ui.safe_writer import unwrap_stream

_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
_REPLACE_SCREEN = "\x1b[H\x1b[2J"


class RefreshedOutput:
    """Output without cursor control: each refresh is printed below the last one, after an empty line."""

    columns: int | None = None  # no line is cut

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = False

    def show_lines(self, lines: Sequence[str]) -> None:
        """Show these lines instead of the last ones."""
        self._stream.write(("\n" if self._shown else "") + "".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._shown = True


class RefreshedScreen(RefreshedOutput):
    """Lines of a terminal that each refresh replaces in place. A resize clears the screen, because lines move."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._size: os.terminal_size | None = None
        self._height = 0

    @property
    def columns(self) -> int | None:  # type: ignore[override]
        return self._measure().columns

    def show_lines(self, lines: Sequence[str]) -> None:
        size = self._measure()
        if len(lines) >= size.lines:
            kept = max(1, size.lines - 2)
            lines = [*lines[: kept - 1], f"… {len(lines) - kept} more lines", lines[-1]]
        start = _REPLACE_SCREEN if self._size not in (None, size) else f"\x1b[{self._height}A\r" if self._height else ""
        text = "".join(f"{line}\x1b[K\n" for line in lines)
        self._stream.write(f"{start}{_NO_WRAP}{text}{_WRAP}\x1b[J")
        self._stream.flush()
        self._size, self._height = size, len(lines)

    def _measure(self) -> os.terminal_size:
        try:
            return os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return os.terminal_size((80, 24))


def choose_refreshed_output(stream: TextIO, environ: Mapping[str, str]) -> RefreshedOutput:
    """Return a screen for a terminal with cursor control, else the output for a pipe."""
    if stream.isatty() and environ.get("TERM", "") not in ("", "dumb", "unknown"):
        return RefreshedScreen(unwrap_stream(stream))
    return RefreshedOutput(stream)
