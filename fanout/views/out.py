"""The streams that views and verbs write to.

No character that the stream cannot show, no full disk and no closed terminal causes a traceback or ends a run. Text of
other programs cannot steer the terminal.
"""

from __future__ import annotations

import os

from fanout.views.sanitise import harmless

TYPE_CHECKING = False  # --help loads this module and pays for nothing else
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

#: Symbols of our own, for a stream that cannot show them.
_ASCII = str.maketrans({"…": "...", "·": "-", "━": "=", "│": "|", "×": "x", "≈": "~", "–": "-"})


def in_ascii(text: str) -> str:
    """The text with our own symbols in ASCII; other characters stay."""
    return text.translate(_ASCII)


def words(stream: TextIO, *, ascii_only: bool = False, failed: Callable[[str], None] | None = None) -> TextIO:
    """Return the stream for words; ``ascii_only``: our own symbols in ASCII; ``failed`` as in ``Words``."""
    stands_in: Any = Words(stream, ascii_only=ascii_only, failed=failed)
    return stands_in  # type: ignore[no-any-return]


def past(stream: TextIO) -> TextIO:
    """The stream itself, for the live view and a line of progress: they steer the cursor, and clean what they show."""
    return stream.stream if isinstance(stream, Words) else stream


class Words:
    """Stdout or stderr: text, tabs, line ends and colours go through. A write that fails loses its text and no more.

    ``failed`` is called once, with the reason. ``trouble`` keeps the reason. If the reader of a pipe has left,
    BrokenPipeError is raised where ``failed`` is given, as on stdout; a stderr that is gone is silent.
    """

    def __init__(
        self, stream: TextIO, *, ascii_only: bool = False, failed: Callable[[str], None] | None = None
    ) -> None:
        self.stream = stream
        self.trouble = ""
        self.ascii_only = ascii_only
        self._failed = failed

    def write(self, text: str) -> int:
        text = self.fit(text)
        try:
            try:
                return self.stream.write(text)
            except UnicodeEncodeError:
                return self.stream.write(shown_in(text, self.stream.encoding))
        except (OSError, ValueError) as error:
            self.fail(error)
        return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self.fail(error)

    def fail(self, error: OSError | ValueError) -> None:
        """Keep the reason, and tell it the first time. ValueError: the stream is closed."""
        if isinstance(error, BrokenPipeError) and self._failed is not None:
            raise error
        known, self.trouble = self.trouble, (isinstance(error, OSError) and error.strerror) or str(error)
        if not known and self._failed is not None:
            self._failed(self.trouble)

    def settle(self) -> None:
        """Hand on what is left, once; what the stream still does not take must not trouble Python at its end."""
        self.flush()
        if self.trouble:
            silence(self.stream)

    def fit(self, text: str) -> str:
        """The text as it may be written here."""
        return harmless(in_ascii(text) if self.ascii_only else text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def shown_in(text: str, encoding: str) -> str:
    """The text for a stream that cannot show all of it: other characters as ``\\xe9``."""
    return in_ascii(text).encode(encoding, "backslashreplace").decode(encoding)


def as_bytes(text: str, stream: TextIO) -> bytes:
    """What the stream would make of the text, for whoever writes past its buffer."""
    text = stream.fit(text) if isinstance(stream, Words) else text
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return shown_in(text, encoding).encode(encoding)


def silence(stream: TextIO) -> None:
    """Let the stream end in /dev/null: what is left in its buffer would raise once more when Python exits."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass  # not a real file (a StringIO in a test): nothing to silence


class Out:
    """``broken`` turns True when the reader of a pipe has left (``| head``); from then on nothing is written.

    A device that fails (a terminal that was closed) is silenced. It does not count as broken: the run goes on.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self.broken = self.gone = False

    def write(self, text: str) -> None:
        """Write and flush; characters that the stream cannot show are written as ``\\xe9``."""
        if self.broken or self.gone or not text:
            return
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(shown_in(text, self._encoding))
            self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self.give_up(error)

    def give_up(self, error: OSError | ValueError) -> None:
        """Write nothing from now on."""
        self.broken = isinstance(error, BrokenPipeError)
        self.gone = not self.broken
        if self.gone and isinstance(self._stream, Words):
            self._stream.fail(error)
        silence(self._stream)
