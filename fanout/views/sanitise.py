"""Text of strangers made harmless: what a host sends may colour its own line and do nothing else to the terminal.

Kept: printable text, tabs, and colour (SGR) sequences, which end with their line. Dropped: the cursor and erase
sequences that progress bars use, because they carry no text, and where a link (OSC 8) leads, because a click should go
where the text says. Everything else that could act (C0, C1, other escapes, bidirectional overrides, line separators) is
shown as ``\\x1b``.
"""

from __future__ import annotations

import re

#: Control characters, and the invisible ones that reorder text or break lines; a tab is harmless.
DENIED = r"\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"

_ACTIVE = re.compile(
    r"(?P<colour>\x1b\[[0-9;:]{0,60}m)"
    r"|(?P<moves>\x1b\[\??[0-9;]{0,20}[ABCDEFGHJKSTfhlsu]|\x1b\]8;[ -~]{0,2048}(?:\x1b\\|\x07))"
    rf"|(?P<other>[{DENIED}])"
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,60}m")
RESET = "\x1b[0m"


def clean(text: str, *, colour: bool = True) -> str:
    """``text`` as it may be shown on one line of a terminal; without ``colour`` not even SGR is left."""
    if text.isprintable() or text.replace("\t", "").isprintable():
        return text
    if uncoloured(text).isprintable():  # the common case of a coloured line, without a call for every match
        return _ended(text) if colour else uncoloured(text)
    coloured = False

    def harmless(match: re.Match[str]) -> str:
        nonlocal coloured
        if match["colour"]:
            coloured = colour
            return match["colour"] if colour else ""
        return "" if match["moves"] else escaped(match["other"])

    text = _ACTIVE.sub(harmless, text)
    return _ended(text) if coloured else text


def _ended(text: str) -> str:
    """Coloured text whose colour ends with it."""
    return text if text.startswith((RESET, "\x1b[m"), text.rfind("\x1b[")) else text + RESET


def harmless(text: str) -> str:
    """A text of many lines as it may be written to a terminal, whoever wrote which part of it."""
    if text.replace("\n", "").isprintable():
        return text
    return "\n".join([line if line.isprintable() else clean(line) for line in text.split("\n")])


def clean_lines(text: str) -> list[str]:
    """A message of several lines as lines without colour, each of them harmless; none of them empty."""
    return [clean(line, colour=False) for line in re.split(r"\r\n|\n|\r", text) if line.strip()]


def sentence(text: str) -> str:
    """A message as one harmless line."""
    return " ".join(line.strip() for line in clean_lines(text))


def escaped(char: str) -> str:
    """The character as Python would write it: ``\\x1b``, ``\\u202e``."""
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"


def uncoloured(text: str) -> str:
    """Clean text without its colours: what it says, and how wide it is."""
    return _COLOUR.sub("", text) if "\x1b" in text else text
