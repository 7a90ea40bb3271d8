"""Key parser: turn the bytes of a terminal into key presses and pasted texts. Pure.

Pasted text must not act as keys: a ``d`` in it would detach. A terminal with bracketed paste marks it. In any other
terminal, many different characters in one read count as pasted, because a person does not type them within a tenth of a second.
"""

from __future__ import annotations

import re
from typing import NamedTuple

PASTE_BEGIN, PASTE_END = "\x1b[200~", "\x1b[201~"
BURST_KEYS = 4  # characters in one read that count as pasted, unless all are the same (a key that is held down)
MAX_PASTE = 4096  # characters that are kept
_SEQUENCE = re.compile(r"\x1b(?:\[[0-9;<>=?]*[ -/]*[@-~]|O.|[^\[O])")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;<>=?]*|O)?\Z")
_LETTERS = {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end"}
_NAMES = {
    **{f"\x1b{lead}{letter}": name for lead in "[O" for letter, name in _LETTERS.items()},
    **{f"\x1b[{number}~": name for number, name in ((1, "home"), (7, "home"), (4, "end"), (8, "end"))},
    "\r": "enter",
    "\n": "enter",
    "\x7f": "erase",
    "\b": "erase",
    "\x1b": "escape",
}


class Key(NamedTuple):
    """One key press: a character, or a name such as ``up``. ``paste`` has the pasted ``text``.

    ``alone``: no other key arrived in the same read, so a person has pressed it.
    """

    name: str
    text: str = ""
    alone: bool = True


class KeyParser:
    """Parser of one terminal's input. It keeps unfinished sequences and pastes until the next read."""

    def __init__(self) -> None:
        self._held = ""  # the beginning of an escape sequence
        self._pasted: str | None = None  # the text of a paste whose end has not arrived
        self._in_burst = False  # the last read was a burst, and no pause has followed

    def parse_text(self, data: str) -> list[Key]:
        """Return the keys in the text of one read."""
        text, self._held = self._held + data, ""
        keys: list[Key] = []
        while text:
            if self._pasted is not None:
                text = self._read_paste(text, keys)
                continue
            before, begin, text = text.partition(PASTE_BEGIN)
            if begin:
                self._pasted = ""
            else:
                before = self._hold_unfinished(before)
            keys += self._split_keys(before)
        return keys if len(keys) == 1 else [key._replace(alone=False) for key in keys]

    def flush(self) -> list[Key]:
        """Return the key Escape if it was pressed alone: no further character has followed."""
        held, self._held = self._held, ""
        self._in_burst = False
        return [Key("escape")] if held == "\x1b" else []

    def _read_paste(self, text: str, keys: list[Key]) -> str:
        """Add the text up to the end of the paste; return the text after it."""
        assert self._pasted is not None
        pasted, end, rest = text.partition(PASTE_END)
        self._pasted = (self._pasted + pasted)[:MAX_PASTE]
        if not end:
            kept = next((size for size in range(len(PASTE_END) - 1, 0, -1) if text.endswith(PASTE_END[:size])), 0)
            if kept:
                self._pasted, self._held = self._pasted.removesuffix(PASTE_END[:kept]), PASTE_END[:kept]
            return ""
        keys.append(Key("paste", self._pasted))
        self._pasted = None
        return rest

    def _hold_unfinished(self, text: str) -> str:
        unfinished = _UNFINISHED.search(text)
        self._held = unfinished[0][:64] if unfinished else ""
        return text[: unfinished.start()] if unfinished else text

    def _split_keys(self, text: str) -> list[Key]:
        """Return the keys of a text without marked pastes. A burst, and what follows it without a pause, is one paste."""
        characters = _SEQUENCE.sub("", text)
        many = len(characters) >= BURST_KEYS and len(set(characters)) > 1
        if characters and (many or self._in_burst):
            self._in_burst = True
            return [Key("paste", characters[:MAX_PASTE])]
        return _name_keys(text)


def _name_keys(text: str) -> list[Key]:
    """Return the keys of a text; unknown sequences, such as mouse reports, are dropped."""
    keys: list[Key] = []
    at = 0
    for match in _SEQUENCE.finditer(text):
        keys += [Key(_NAMES.get(char, char)) for char in text[at : match.start()]]
        if match[0] in _NAMES:
            keys.append(Key(_NAMES[match[0]]))
        at = match.end()
    return keys + [Key(_NAMES.get(char, char)) for char in text[at:]]
