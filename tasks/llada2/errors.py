"""Errors that the user can fix, each reported in one line and never as a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """A wrong file, value or option; ``str(error)`` is one line that names it, the cause and what to type."""


class FieldError(UserError):
    """A wrong field of the configuration; the reader of the file adds the line of the field."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field} {text}")
        self.field = field


def run_command(work: Callable[[], object]) -> int:
    """Run a command; return its exit status. A UserError is one line on stderr and status 2."""
    try:
        work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def first_line(error: object, most: int = 160) -> str:
    """Return the first line of a library's message, cut at a word where it is longer than ``most`` characters."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line if len(line) <= most else line[:most].rpartition(" ")[0] + " …"
