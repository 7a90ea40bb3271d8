"""Suggestions: the known words that are closest to a mistyped word. Pure."""

from __future__ import annotations

TYPE_CHECKING = False  # --help must not pay for typing
if TYPE_CHECKING:
    from collections.abc import Iterable


def find_nearest(word: str, known: Iterable[str], *, most: int = 1, likeness: float = 0.6) -> list[str]:
    """Return the known words that are close to the word, the closest first."""
    from difflib import get_close_matches

    return get_close_matches(word, list(known), n=most, cutoff=likeness)


def suggest_nearest(
    word: str, known: Iterable[str], *, most: int = 1, likeness: float = 0.6, quoted: bool = True
) -> str:
    """Return ``did you mean 'gpu01'?``, or "" if no known word is close. A word to type is not quoted."""
    near = find_nearest(word, known, most=most, likeness=likeness)
    return f"did you mean {' or '.join(map(repr if quoted else str, near))}?" if near else ""
