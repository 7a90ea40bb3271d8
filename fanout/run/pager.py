"""Pager: a program such as ``less`` that shows text which is longer than the terminal."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from typing import IO, TextIO

from fanout.model.errors import UsageError
from fanout.run.stop_signals import filter_handled_signals
from fanout.text.sanitize import strip_escapes
from fanout.text.table import count_columns
from fanout.ui.safe_writer import TextWriter, to_bytes

DEFAULT_PAGER = "less"
#: As git sets them: less ends if the text fits, shows colours, and leaves the text on the screen; lv shows colours.
PAGER_ENVIRONMENT = {"LESS": "FRX", "LV": "-c"}
_NO_PAGER = ("", "cat")
_SHELL_SYNTAX = frozenset("\"'\\$`;&|<>(){}=~*?[]#!")
_PIECE = 32 * 1024  # bytes per write to the pager


def choose_pager(environ: Mapping[str, str], stream: TextIO) -> str:
    """Return the command of the pager for this stream, "" for none: not a terminal, a dumb one, or the user wants none.

    Raises UsageError if the user named a pager that is not installed.
    """
    if not stream.isatty() or environ.get("TERM", "") in ("", "dumb", "unknown"):
        return ""
    variable = next((name for name in ("FANOUT_PAGER", "PAGER") if name in environ), "")
    command = environ[variable].strip() if variable else DEFAULT_PAGER
    if command in _NO_PAGER:
        return ""
    if _is_installed(command, environ):
        return command
    if variable:
        raise UsageError(
            f"{variable}={command}: not found", hint=f"{variable}=less fanout logs, or fanout logs --no-pager"
        )
    return ""


def _is_installed(command: str, environ: Mapping[str, str]) -> bool:
    """Return whether the first word is a program. A command with further shell syntax counts as installed."""
    if set(command) & _SHELL_SYNTAX:
        return True
    return shutil.which(command.split()[0], path=environ.get("PATH")) is not None


class PagedWriter:
    """Writer to a pager, which starts when the text exceeds the screen. A shorter text is printed as it is.

    ``broken`` is True once the user has closed the pager. That is no error.
    """

    def __init__(self, stream: TextIO, command: str, environ: Mapping[str, str]) -> None:
        self._stream, self._command, self._environ = stream, command, environ
        self._held: list[str] = []
        self._rows_left, self._columns = _measure_terminal(stream)
        self._unsent = bytearray()
        self._before = signal.getsignal(signal.SIGINT)
        self._pager: subprocess.Popen[bytes] | None = None
        self.broken = False

    def write(self, text: str) -> None:
        """Write whole lines."""
        if self.broken or not text:
            return
        if self._pager is None:
            self._held.append(text)
            self._rows_left -= _count_rows(text, self._columns, most=self._rows_left + 1)
            if self._rows_left >= 0:
                return
            self._start_pager()
            text = "".join(self._held)
        self._unsent += to_bytes(text, self._stream)
        if len(self._unsent) >= _PIECE:
            self._send_unsent()

    def close(self) -> int:
        """Print a text that needs no pager, or wait until the user closes the pager. Return its exit status."""
        if self._pager is None:
            TextWriter(self._stream).write("".join(self._held))
            return 0
        self._send_unsent()
        self._get_pipe().close()
        status = self._pager.wait()
        signal.signal(signal.SIGINT, self._before)
        return status

    def _start_pager(self) -> None:
        self._stream.flush()
        if filter_handled_signals([signal.SIGINT]):  # Ctrl-C belongs to the pager, which has the terminal
            self._before = signal.signal(signal.SIGINT, lambda number, frame: None)
        environ = {**PAGER_ENVIRONMENT, **self._environ}
        self._pager = subprocess.Popen(["sh", "-c", self._command], stdin=subprocess.PIPE, env=environ, bufsize=0)

    def _send_unsent(self) -> None:
        """Send what was written since the last call, unless the user has closed the pager."""
        unsent, self._unsent = bytes(self._unsent), bytearray()
        try:
            while unsent and not self.broken:
                unsent = unsent[os.write(self._get_pipe().fileno(), unsent) :]
        except OSError:  # the user has closed the pager
            self.broken = True

    def _get_pipe(self) -> IO[bytes]:
        assert self._pager is not None
        assert self._pager.stdin is not None
        return self._pager.stdin


def _measure_terminal(stream: TextIO) -> tuple[int, int]:
    """Return the rows that a text may have before it exceeds the screen, and the columns. The last row is the prompt's."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        size = os.terminal_size((80, 24))
    return max(0, size.lines - 1), max(1, size.columns)


def _count_rows(text: str, columns: int, *, most: int) -> int:
    """Return how many rows of the terminal the lines need; no more than ``most`` are counted."""
    rows = 0
    for line in text.splitlines():
        rows += max(1, -(-count_columns(strip_escapes(line)) // columns))
        if rows >= most:
            break
    return rows
