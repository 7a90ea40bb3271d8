"""Safe text writer: the output streams of views and commands.

An unencodable character, a full disk or a closed terminal never causes a traceback and never ends a run. Text from other
programs cannot control the terminal.
"""

from __future__ import annotations

import os

from fanout.text.sanitize import sanitize_text

TYPE_CHECKING = False  # `fanout --help` imports this module, so it must import little
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

#: fanout's own symbols, and their replacements for a stream that cannot encode them.
_ASCII = str.maketrans(
    {"…": "...", "·": "-", "━": "=", "│": "|", "×": "x", "≈": "~", "–": "-", "↑": "^", "↓": "v", "←": "<", "→": ">"}
)


def to_ascii(text: str) -> str:
    """Replace fanout's own symbols by ASCII; keep other characters."""
    return text.translate(_ASCII)


def wrap_stream(stream: TextIO, *, ascii_only: bool = False, failed: Callable[[str], None] | None = None) -> TextIO:
    """Wrap a stream for messages. ``ascii_only`` replaces fanout's own symbols; ``failed`` gets the first error."""
    is_replacement: Any = SafeStream(stream, ascii_only=ascii_only, failed=failed)
    return is_replacement  # type: ignore[no-any-return]


def unwrap_stream(stream: TextIO) -> TextIO:
    """Return the wrapped stream, for the live view and progress lines: they move the cursor, and sanitise their text."""
    return stream.stream if isinstance(stream, SafeStream) else stream


class SafeStream:
    """Wrapper of stdout or stderr that passes text, tabs, line ends and colours. A failed write only loses its text.

    ``failed`` is called once with the reason, and ``trouble`` keeps it. If the reader of a pipe has exited, a stream with
    ``failed`` (stdout) raises BrokenPipeError; a stream without it (stderr) ignores the error.
    """

    def __init__(
        self, stream: TextIO, *, ascii_only: bool = False, failed: Callable[[str], None] | None = None
    ) -> None:
        self.stream = stream
        self.trouble = ""
        self.ascii_only = ascii_only
        self._failed = failed

    def write(self, text: str) -> int:
        text = self.sanitize_for_stream(text)
        try:
            try:
                return self.stream.write(text)
            except UnicodeEncodeError:
                return self.stream.write(to_encodable(text, self.stream.encoding))
        except (OSError, ValueError) as error:
            self.handle_error(error)
        return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self.handle_error(error)

    def handle_error(self, error: OSError | ValueError) -> None:
        """Keep the reason, and report it the first time. A ValueError means that the stream is closed."""
        if isinstance(error, BrokenPipeError) and self._failed is not None:
            raise error
        known, self.trouble = self.trouble, (isinstance(error, OSError) and error.strerror) or str(error)
        if not known and self._failed is not None:
            self._failed(self.trouble)

    def flush_or_silence(self) -> None:
        """Flush once more. If that fails, silence the stream, so that Python does not raise again when it exits."""
        self.flush()
        if self.trouble:
            silence_stream(self.stream)

    def sanitize_for_stream(self, text: str) -> str:
        """Return the text in the form that this stream may receive."""
        return sanitize_text(to_ascii(text) if self.ascii_only else text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def to_encodable(text: str, encoding: str) -> str:
    """Return the text for a stream with a limited encoding; other characters become escapes such as ``\\xe9``."""
    return to_ascii(text).encode(encoding, "backslashreplace").decode(encoding)


def to_bytes(text: str, stream: TextIO) -> bytes:
    """Encode the text as the stream would, for a caller that writes to its descriptor."""
    text = stream.sanitize_for_stream(text) if isinstance(stream, SafeStream) else text
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return to_encodable(text, encoding).encode(encoding)


def silence_stream(stream: TextIO) -> None:
    """Redirect the stream to /dev/null; otherwise the rest of its buffer raises again when Python exits."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass  # not a real file, such as a StringIO in a test


class TextWriter:
    """Text writer. ``broken`` is True once the reader of a pipe has exited (``| head``); later writes do nothing.

    A failed device, such as a closed terminal, is silenced. It does not count as broken, so the run continues.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self.broken = self.is_reader_gone = False

    def write(self, text: str) -> None:
        """Write and flush the text; characters that the stream cannot encode become escapes such as ``\\xe9``."""
        if self.broken or self.is_reader_gone or not text:
            return
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                self._stream.write(to_encodable(text, self._encoding))
            self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self.stop_writing(error)

    def stop_writing(self, error: OSError | ValueError) -> None:
        """Stop writing to the stream after an error."""
        self.broken = isinstance(error, BrokenPipeError)
        self.is_reader_gone = not self.broken
        if self.is_reader_gone and isinstance(self._stream, SafeStream):
            self._stream.handle_error(error)
        silence_stream(self._stream)
