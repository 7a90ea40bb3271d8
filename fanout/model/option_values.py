"""Value of an option: parse and check it in the same way from the command line, the environment and fanout.toml. Pure."""

from __future__ import annotations

import re
import shlex

from fanout.model.errors import UsageError
from fanout.model.option import ByteSize, Duration
from fanout.text.parse_units import DURATION_EXAMPLES, SIZE_EXAMPLES, parse_duration, parse_size
from fanout.text.suggest import suggest_nearest

TYPE_CHECKING = False  # a help page must not pay for typing
if TYPE_CHECKING:
    from typing import Any

    from fanout.model.option import Option

_WHOLE = re.compile(r"[+-]?\d{1,4000}", re.ASCII)
_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}
_LONGEST_NUMBER = 24  # characters of a wrong number that a message shows
_DESCRIPTIONS: dict[type, str] = {
    str: "text",
    int: "a whole number",
    bool: "true or false",
    tuple: "a list of texts",
    Duration: f"a duration such as {DURATION_EXAMPLES}",
    ByteSize: f"a size such as {SIZE_EXAMPLES}",
}
_TYPES: dict[type, tuple[type, ...]] = {Duration: (int, float), ByteSize: (int,)}


def parse_option_text(row: Option, text: str, where: str) -> Any:
    """Return the value of a text from the command line or the environment. Raises UsageError, which names ``where``."""
    if text in row.words:
        return text
    value = _parse_text(row.kind, text)
    if value is None:
        raise UsageError(f"{where} must be {_describe_values(row)}, not {_shorten(repr(text))}")
    return _check_range(row, value, where, text)


def check_option_value(row: Option, value: Any, where: str) -> Any:
    """Return the checked value of a TOML file, in which a duration or a size may also be a text. Raises UsageError."""
    if isinstance(value, str) and row.kind in (Duration, ByteSize):
        return parse_option_text(row, value, where)
    if row.kind is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = tuple(value)
    if not isinstance(value, _TYPES.get(row.kind, (row.kind,))) or (isinstance(value, bool) and row.kind is not bool):
        raise UsageError(f"{where} must be {_describe_values(row)}, not {_shorten(repr(value))}")
    return _check_range(row, value, where, row.format_value(value) if value == 0 else str(value))


def range_error(row: Option, value: float, typed: str) -> str:
    """Return the error as the end of a sentence, or "" if the value is within the bounds of the option."""
    if row.bounds is None or row.bounds[0] <= value <= row.bounds[1] or (row.zero and value == 0):  # false for nan
        return ""
    least, most = (row.format_value(bound) for bound in row.bounds)
    shown = typed if len(typed) <= _LONGEST_NUMBER else typed[:20] + "…"
    return f"must be from {least} to {most}{' (or 0 for no limit)' if row.zero else ''}, not {shown}"


def _parse_text(kind: type, text: str) -> Any:
    """Return the value of a text; None if it is not of this kind."""
    if kind is Duration:
        return parse_duration(text)
    if kind is ByteSize:
        return parse_size(text)
    if kind is int:
        return int(text) if _WHOLE.fullmatch(text) else None
    if kind is bool:
        return _TRUTH.get(text.lower())
    if kind is tuple:
        try:
            return tuple(shlex.split(text))
        except ValueError:  # the text has an open quote
            return None
    return text


def _check_range(row: Option, value: Any, where: str, typed: str) -> Any:
    """Check the choices and the bounds, and return the value in its final type. Raises UsageError."""
    if row.choices and value not in row.choices:
        raise UsageError(
            f"{where} must be one of {', '.join(row.choices)}, not {_shorten(repr(value))}",
            hint=suggest_nearest(str(value), row.choices, quoted=False),
        )
    if isinstance(value, (int, float)) and row.kind is not bool and (wrong := range_error(row, value, typed)):
        raise UsageError(f"{where} {wrong}")
    if row.kind is Duration:
        return f"{float(value):.15g}" if row.words else float(value)
    return value


def _describe_values(row: Option) -> str:
    words = [word for word in row.words if word]
    return f"{', '.join(words)}, or {_DESCRIPTIONS[row.kind]}" if words else _DESCRIPTIONS[row.kind]


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
