"""A text stream that a view writes to: never a traceback for a reader that left or a terminal without UTF-8."""

from __future__ import annotations

import os
from typing import TextIO

#: Symbols of our own, for a stream that cannot show them.
_ASCII = str.maketrans({"…": "...", "·": "-", "━": "=", "│": "|", "×": "x", "≈": "~", "–": "-"})


def in_ascii(text: str) -> str:
    """The text with our own symbols in ASCII; other characters stay."""
    return text.translate(_ASCII)


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
                self._stream.write(in_ascii(text).encode(self._encoding, "backslashreplace").decode(self._encoding))
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.broken = True
            self._silence()

    def _silence(self) -> None:
        """What is left in the stream's buffer would raise once more when Python exits: let it go to /dev/null."""
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        except (OSError, ValueError):
            pass  # not a real file (a StringIO in a test): nothing to silence
