"""The streams that views and verbs write to: never a traceback for a terminal without UTF-8 or for a reader that left,
and nothing of what a stranger wrote that would steer the terminal.
"""

from __future__ import annotations

import os
from typing import Any, TextIO, cast

from fanout.views.sanitise import harmless

#: Symbols of our own, for a stream that cannot show them.
_ASCII = str.maketrans({"…": "...", "·": "-", "━": "=", "│": "|", "×": "x", "≈": "~", "–": "-"})


def in_ascii(text: str) -> str:
    """The text with our own symbols in ASCII; other characters stay."""
    return text.translate(_ASCII)


def words(stream: TextIO, *, ascii_only: bool = False) -> TextIO:
    """The stream for words, ours and those of strangers; ``ascii_only``: our own symbols in ASCII."""
    return cast(TextIO, _Words(stream, ascii_only=ascii_only))


def past(stream: TextIO) -> TextIO:
    """The stream itself, for the live view and a line of progress: they steer the cursor, and clean what they show."""
    return stream.stream if isinstance(stream, _Words) else stream


class _Words:
    """Stdout and stderr for words, ours and those of strangers: text, tabs, line ends and colours go through."""

    def __init__(self, stream: TextIO, *, ascii_only: bool) -> None:
        self.stream = stream
        self._ascii_only = ascii_only

    def write(self, text: str) -> int:
        text = self.fit(text)
        try:
            return self.stream.write(text)
        except UnicodeEncodeError:
            return self.stream.write(shown_in(text, self.stream.encoding))

    def fit(self, text: str) -> str:
        """The text as it may be written here."""
        return harmless(in_ascii(text) if self._ascii_only else text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def shown_in(text: str, encoding: str) -> str:
    """The text for a stream that cannot show all of it: other characters as ``\\xe9``."""
    return in_ascii(text).encode(encoding, "backslashreplace").decode(encoding)


def as_bytes(text: str, stream: TextIO) -> bytes:
    """What the stream would make of the text, for whoever writes past its buffer."""
    text = stream.fit(text) if isinstance(stream, _Words) else text
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return shown_in(text, encoding).encode(encoding)


class Out:
    """``broken`` turns True when the reader is gone (``| head``) or the device fails; from then on it writes nothing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self.broken = False

    def write(self, text: str) -> None:
        """Write and flush; characters that the stream cannot show are written as ``\\xe9``."""
        if self.broken or not text:
            return
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(shown_in(text, self._encoding))
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.give_up()

    def give_up(self) -> None:
        """Nobody reads. What is left in the stream's buffer would raise once more when Python exits: to /dev/null."""
        self.broken = True
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        except (OSError, ValueError):
            pass  # not a real file (a StringIO in a test): nothing to silence
