"""Sanitiser: text from a host may colour its own line, but cannot control the terminal in any other way.

It keeps printable text, tabs and colour (SGR) sequences; a colour ends with its line. It drops the cursor and erase
sequences of progress bars, because they carry no text. It drops the target of a link (OSC 8), because it may differ from
the visible text. Other active characters (C0, C1, other escapes, bidirectional overrides, line separators) are shown as
``\\x1b``.
"""

from __future__ import annotations

import re

#: Control characters, and invisible characters that reorder text or break lines. A tab is harmless.
DENIED = r"\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"

_ACTIVE = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]{0,60}m)"
    r"|(?P<moves>\x1b\[\??[0-9;]{0,20}[ABCDEFGHJKSTfhlsu]|\x1b\]8;[ -~]{0,2048}(?:\x1b\\|\x07))"
    rf"|(?P<other>[{DENIED}])"
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,60}m")
_SEQUENCE = re.compile(r"\x1b\[[0-9;:?]{0,60}[A-Za-z]|\x1b\][0-9]{1,4};[^\x07\x1b]{0,2048}(?:\x1b\\|\x07)")
RESET = "\x1b[0m"


def sanitize_line(text: str, *, colour: bool = True) -> str:
    """Return ``text`` sanitised for one line of a terminal; without ``colour``, SGR sequences are removed too."""
    if text.isprintable() or text.replace("\t", "").isprintable():
        return text
    plain = _COLOUR.sub("", text)
    if plain.isprintable():  # the common case of a coloured line, without a call for every match
        return _end_colour(text) if colour else plain
    coloured = False

    def harmless(match: re.Match[str]) -> str:
        nonlocal coloured
        if match["colour"]:
            coloured = colour
            return match["colour"] if colour else ""
        return "" if match["moves"] else escape_char(match["other"])

    text = _ACTIVE.sub(harmless, text)
    return _end_colour(text) if coloured else text


def _end_colour(text: str) -> str:
    """Return coloured text that ends with a reset of the colour."""
    return text if text.startswith((RESET, "\x1b[m"), text.rfind("\x1b[")) else text + RESET


def sanitize_text(text: str) -> str:
    """Return a text of many lines, with every line sanitised."""
    if text.replace("\n", "").isprintable():
        return text
    return "\n".join([line if line.isprintable() else sanitize_line(line) for line in text.split("\n")])


def sanitize_lines(text: str) -> list[str]:
    """Return the non-empty lines of a message, sanitised and without colour."""
    return [sanitize_line(line, colour=False) for line in re.split(r"\r\n|\n|\r", text) if line.strip()]


def to_single_line(text: str) -> str:
    """Return a message as one sanitised line."""
    if text.isprintable():  # the common case
        return text.strip()
    return " ".join(line.strip() for line in sanitize_lines(text))


def escape_invisible(text: str) -> str:
    """Return text of a user's file, in which a problem may be invisible: all that is not printable is an escape.

    A tab becomes a space, so that columns stay in place.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char == "\t" else escape_char(char) for char in text)


def escape_char(char: str) -> str:
    """Return a character as a Python escape: ``\\x1b``, ``\\u202e``, ``\\U000e0001``."""
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def strip_escapes(text: str) -> str:
    """Return a text without escape sequences (colours, cursor movements, titles, links), for searches in it."""
    return _SEQUENCE.sub("", text) if "\x1b" in text else text
