"""Adversarial texts for a regular expression, built from its parse tree: texts that begin to match in many ways and fail.

A search becomes quadratic if many places can begin a match that runs on for long before it fails, or if two neighbouring
repeats can share a run of characters in many ways. The texts repeat what stands before a repeat, what it repeats, and both.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

if sys.version_info >= (3, 11):
    from re import _constants as constants
    from re import _parser as parser
else:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sre_constants as constants
        import sre_parse as parser

LONG_REPEAT = 60  # a repeat of fewer characters costs little
FILLINGS = (
    "9",
    "a",
    " ",
    ".",
    "1.",
    "a ",
    "[",
    "(",
    ":",
    "-",
    "/",
    "_",
    '"',
    "\t",
    "a.",
    "9 ",
    "=",
    "é",
    ",",
    "'",
    "a:",
)
_CATEGORIES = {
    constants.CATEGORY_DIGIT: "9", constants.CATEGORY_WORD: "a", constants.CATEGORY_SPACE: " ",
    constants.CATEGORY_NOT_DIGIT: "a", constants.CATEGORY_NOT_WORD: " ", constants.CATEGORY_NOT_SPACE: "a",
}  # fmt: skip


def build_texts(pattern: re.Pattern[str], length: int) -> Iterator[str]:
    """Yield adversarial texts of about this length, each once."""
    seen: dict[str, None] = dict.fromkeys(FILLINGS)
    for before, item in _find_repeats(_parse_nodes(pattern), ""):
        for unit in (item, before, before + item, *(before + filling for filling in ("9", "a", " "))):
            seen.setdefault(unit)
        for filling in (item, "9", "a", " ", '"'):
            yield (before + filling * length)[:length] + "\x00"
    for unit in seen:
        if unit:
            yield (unit * (length // len(unit) + 1))[:length] + "\x00"


def _parse_nodes(pattern: re.Pattern[str]) -> list[Any]:
    tree: Any = parser.parse(pattern.pattern, pattern.flags)
    return list(tree)


def _find_repeats(nodes: Sequence[Any], before: str) -> Iterator[tuple[str, str]]:
    """Yield (a text that matches what stands before a long repeat, a text that matches the repeated item)."""
    for operator, value in nodes:
        yield from _find_inner_repeats(operator, value, before)
        before += _sample_node(operator, value)


def _find_inner_repeats(operator: Any, value: Any, before: str) -> Iterator[tuple[str, str]]:
    if operator in (constants.MAX_REPEAT, constants.MIN_REPEAT, getattr(constants, "POSSESSIVE_REPEAT", None)):
        _, most, item = value
        if most >= LONG_REPEAT:
            yield before, _sample_nodes(item)
        yield from _find_repeats(list(item), before)
    elif operator is constants.SUBPATTERN:
        yield from _find_repeats(list(value[3]), before)
    elif operator is constants.BRANCH:
        for branch in value[1]:
            yield from _find_repeats(list(branch), before)
    elif operator in (constants.ASSERT, constants.ASSERT_NOT):
        yield from _find_repeats(list(value[1]), before)


def _sample_nodes(nodes: Any) -> str:
    return "".join(_sample_node(operator, value) for operator, value in nodes)


def _sample_node(operator: Any, value: Any) -> str:
    """Return a short text that matches the node."""
    if operator is constants.LITERAL:
        return chr(value)
    if operator is constants.NOT_LITERAL:
        return "a" if value != ord("a") else "b"
    if operator is constants.ANY:
        return "a"
    if operator is constants.IN:
        return _sample_set(value)
    if operator in (constants.MAX_REPEAT, constants.MIN_REPEAT, getattr(constants, "POSSESSIVE_REPEAT", None)):
        return _sample_nodes(value[2]) * int(value[0])
    if operator is constants.SUBPATTERN:
        return _sample_nodes(value[3])
    if operator is constants.BRANCH:
        return _sample_nodes(value[1][0])
    return ""


def _sample_set(items: Sequence[Any]) -> str:
    if items[0][0] is constants.NEGATE:
        denied = {chr(value) for operator, value in items[1:] if operator is constants.LITERAL}
        return str(next(char for char in "a9 .-:" if char not in denied))
    operator, value = items[0]
    if operator is constants.RANGE:
        return chr(value[0])
    if operator is constants.CATEGORY:
        return str(_CATEGORIES.get(value, "a"))
    return chr(value)


def find_unbounded(pattern: re.Pattern[str]) -> list[str]:
    """Return a sample of the item of each repeat without an upper bound."""
    return list(_list_unbounded(_parse_nodes(pattern)))


def _list_unbounded(nodes: Sequence[Any]) -> Iterator[str]:
    for operator, value in nodes:
        if operator in (constants.MAX_REPEAT, constants.MIN_REPEAT):
            if value[1] == constants.MAXREPEAT:
                yield _sample_nodes(value[2])
            yield from _list_unbounded(list(value[2]))
        elif operator is constants.SUBPATTERN:
            yield from _list_unbounded(list(value[3]))
        elif operator is constants.BRANCH:
            for branch in value[1]:
                yield from _list_unbounded(list(branch))
        elif operator in (constants.ASSERT, constants.ASSERT_NOT):
            yield from _list_unbounded(list(value[1]))
