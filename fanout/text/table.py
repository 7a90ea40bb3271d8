"""Text tables: aligned and sanitised columns, cut to the given width."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from fanout.text.sanitize import sanitize_line

GAP = "  "


def format_table(
    rows: Sequence[Sequence[str]],
    *,
    header: Sequence[str] = (),
    right: frozenset[int] = frozenset(),
    whole: frozenset[int] = frozenset(),
    width: int | None = None,
) -> list[str]:
    """Return the lines of a table; columns in ``right`` are right-aligned.

    If the table exceeds ``width``, the widest columns are cut with ``…``, except those in ``whole``, such as ids that a
    user must type. Rows may be shorter than the header. No line ends in spaces.
    """
    cells = [[sanitize_line(str(cell), colour=False) for cell in row] for row in ([header, *rows] if header else rows)]
    if not cells:
        return []
    columns = max(len(row) for row in cells)
    widths = [max((count_columns(row[at]) for row in cells if at < len(row)), default=0) for at in range(columns)]
    if width is not None:
        widths = _narrow_widths(widths, width, whole)
    return [_format_row(row, widths, right) for row in cells]


def count_columns(text: str) -> int:
    """Return the width of a text in terminal columns: two for a wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def cut_text(text: str, width: int, *, ellipsis: str = "…") -> str:
    """Cut a text to at most ``width`` columns; a cut text ends with ``ellipsis``, which takes one column."""
    if count_columns(text) <= width:
        return text
    kept = ""
    for char in text:
        if count_columns(kept + char) > width - 1:
            break
        kept += char
    return kept + ellipsis if width > 0 else ""


def _narrow_widths(widths: list[int], width: int, whole: frozenset[int]) -> list[int]:
    """Return narrower widths: the widest column outside ``whole`` shrinks by one until all fit, but never below 4."""
    widths = list(widths)
    free_width = width - len(GAP) * (len(widths) - 1)
    while sum(widths) > free_width:
        at = max((at for at in range(len(widths)) if at not in whole), key=lambda at: widths[at], default=None)
        if at is None or widths[at] <= 4:
            break
        widths[at] -= 1
    return widths


def _format_row(row: Sequence[str], widths: list[int], right: frozenset[int]) -> str:
    parts = []
    for at, text in enumerate(row):
        text = cut_text(text, widths[at])
        fill = " " * (widths[at] - count_columns(text))
        parts.append(fill + text if at in right else text + fill)
    return GAP.join(parts).rstrip()
