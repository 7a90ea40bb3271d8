"""Problems of a hostfile, collected into one message: position, cause, the line with a caret, and the fix."""

from __future__ import annotations

from typing import NamedTuple

from fanout.hostfile.masking import mask_secrets, remove_secrets
from fanout.model.errors import HostfileError
from fanout.model.hosts import Origin
from fanout.text.sanitize import escape_invisible

MOST_SHOWN = 8  # more would not help: they repeat, or it is the wrong file
MOST_KEPT = 10_000  # with so many it is the wrong file: stop reading
_WINDOW = 96  # columns of a very long line that are shown around the caret


class SourceSpan(NamedTuple):
    """A position in a file: number and text of the line, and the columns (from 0).

    It is a tuple for speed: every host of a long file makes a few.
    """

    file: str
    line: int
    text: str = ""
    column: int = 0
    width: int = 1

    @property
    def origin(self) -> Origin:
        return Origin(file=self.file, line=self.line)

    def narrow_to(self, column: int, width: int) -> SourceSpan:
        """Return another part of the same line."""
        return SourceSpan(self.file, self.line, self.text, column, max(width, 1))


class ParseError(Exception):
    """Parse error in a part of a word. The parser of the part raises it; the caller adds the position in the line.

    ``start`` and ``end`` count from the start of the text that the parser received; ``end`` None: all of it.
    """

    def __init__(self, what: str, fix: str = "", *, start: int = 0, end: int | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
        self.start = start
        self.end = end


class Problems:
    """Collector of problems, so that the user sees all of them at once."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._found: list[tuple[SourceSpan, str, str]] = []
        self._files: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add_problem(self, span: SourceSpan, what: str, fix: str = "") -> None:
        self._found.append((span, what, fix))
        self._files.setdefault(span.file, len(self._files))
        if len(self._found) >= MOST_KEPT:
            self.raise_if_any()

    def add_error(self, span: SourceSpan, error: ParseError, *, column: int, length: int) -> None:
        """Add a parse error inside the ``length`` characters that begin at ``column`` of the line."""
        end = length if error.end is None else error.end
        self.add_problem(span.narrow_to(column + error.start, end - error.start), error.what, error.fix)

    def raise_if_any(self) -> None:
        """Raise ``HostfileError`` with all problems, if there are any."""
        if not self._found:
            return
        ordered = sorted(self._found, key=lambda found: (self._files[found[0].file], found[0].line))
        head = [] if len(ordered) == 1 else [f"{escape_invisible(self._source)}: {len(ordered):,} problems"]
        rendered = [_render_problem(span, what, fix) for span, what, fix in ordered[:MOST_SHOWN]]
        rest = len(ordered) - len(rendered)
        tail = [f"… and {rest:,} more"] if rest > 0 else []
        raise HostfileError("\n".join(head + rendered + tail))


def _render_problem(span: SourceSpan, what: str, fix: str) -> str:
    """Return one problem for the user; no secret of the line is in any part of it."""
    masked = mask_secrets(span.text)
    what, fix = remove_secrets(masked.secrets, what), remove_secrets(masked.secrets, fix)
    first, last = masked.map_column(span.column), masked.map_column(span.column + span.width)
    span = SourceSpan(span.file, span.line, masked.text, first, max(last - first, 1))
    lines = [f"{escape_invisible(span.file)}:{span.line}: {what}"]
    if span.text.strip():
        lines += _render_caret(span)
    if fix:
        lines.append(f"  {fix}")
    return "\n".join(escape_invisible(line) for rendered in lines for line in rendered.split("\n"))


def _render_caret(span: SourceSpan) -> list[str]:
    """Return the line and a caret under the part; a very long line is cut to a window around it."""
    first = max(0, span.column - _WINDOW // 2) if len(span.text) > _WINDOW else 0
    shown = escape_invisible(span.text[first : first + _WINDOW])
    before = escape_invisible(span.text[first : span.column])
    meant = escape_invisible(span.text[span.column : min(span.column + span.width, first + _WINDOW)])
    if first:
        shown, before = "…" + shown, "…" + before
    return [f"    {shown.rstrip()}", f"    {' ' * len(before)}{'^' * max(1, len(meant.rstrip()))}"]
