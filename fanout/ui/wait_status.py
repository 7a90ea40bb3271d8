"""Status of a wait for hosts: one line that a terminal shows in place, and that a pipe gets when it changes."""

from __future__ import annotations

from typing import TextIO

from fanout.text.sanitize import sanitize_line
from fanout.text.table import cut_text
from fanout.ui.safe_writer import unwrap_stream

SEPARATOR = " · "  # before the clock, which changes each time


class WaitStatus:
    """The line on stderr."""

    def __init__(self, stderr: TextIO, columns: int) -> None:
        self._is_terminal = stderr.isatty()
        self._stderr = unwrap_stream(stderr) if self._is_terminal else stderr
        self._columns = columns
        self._shown: object = None

    def show(self, text: str, cause: object) -> None:
        """Show the status. In a pipe, write it only if the cause of the wait has changed, because ages always do."""
        text = sanitize_line(text, colour=False)
        shown = text if self._is_terminal else cause
        if shown == self._shown:
            return
        self._shown = shown
        self._write(self._fit(text) if self._is_terminal else f"fanout: {text}\n")

    def leave_terminal(self) -> None:
        """Write plain lines from now on, because the output goes to a file."""
        self.clear()
        self._is_terminal = False

    def clear(self) -> None:
        """Remove the line from a terminal."""
        if self._shown is not None and self._is_terminal:
            self._write("\r\x1b[K")
        self._shown = None

    def _fit(self, text: str) -> str:
        """Return the line for the terminal. The counts and the clock at its end are never cut."""
        head, count, clock = (text.rsplit(SEPARATOR, 2) + ["", ""])[:3]
        end = f"{SEPARATOR}{count}{SEPARATOR}{clock}"
        return f"\r\x1b[K{cut_text(head, max(10, self._columns - 1 - len(end)))}{end}"

    def _write(self, text: str) -> None:
        try:
            self._stderr.write(text)
            self._stderr.flush()
        except (OSError, ValueError):
            return  # the terminal closed; SIGHUP ends the wait
