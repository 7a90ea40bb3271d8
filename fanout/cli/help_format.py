"""Layout of help texts: paragraphs and two columns, wrapped to the terminal. Pure."""

from __future__ import annotations

import textwrap

TYPE_CHECKING = False  # a help page must not pay for typing
if TYPE_CHECKING:
    from collections.abc import Sequence

WIDEST = 120  # longer lines are hard to read
NARROWEST = 40
_LONGEST_NAME = 26  # a longer name has a line of its own


def choose_width(columns: int) -> int:
    """Return the width of the text in a terminal of so many columns."""
    return max(NARROWEST, min(columns - 1, WIDEST))


def wrap_paragraphs(text: str, columns: int) -> list[str]:
    """Return the lines of a text; each of its lines is a paragraph. A line that begins with a space stays as it is."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines += [paragraph] if not paragraph or paragraph[0] == " " else _wrap(paragraph, choose_width(columns))
    return lines


def list_rows(rows: Sequence[tuple[str, str]], columns: int, *, cut: bool = False) -> list[str]:
    """Return rows of a name and a text in two columns. With ``cut``, a text is one line, and ends with … if it is cut."""
    width = choose_width(columns)
    lead = 2 + max((len(name) for name, _ in rows if len(name) <= _LONGEST_NAME), default=0) + 2
    lines: list[str] = []
    for name, text in rows:
        whole = [_cut_list(text, width - lead)] if cut else _wrap(text, width - lead)
        first = whole.pop(0) if len(name) + 4 <= lead and whole else ""
        lines.append(f"{'  ' + name:<{lead}}{first}")
        lines += [" " * lead + line for line in whole]
    return lines


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False)


def _cut_list(text: str, width: int) -> str:
    """Return a list with commas that fits, cut between two items."""
    if len(text) <= width:
        return text
    return text[: text.rfind(",", 0, width - 2) + 1] + " …"
