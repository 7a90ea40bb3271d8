"""Tokenizer of a hostfile line: the host part, then ``key=value`` and single words, each with its column."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from fanout.hostfile.problems import ParseError

_COMMENT = re.compile(r"(?:^|(?<=[ \t]))(?:#|//).*$")
_FIRST = re.compile(r"(?:[^ \t#,]|,[ \t]*(?=[^ \t#,=]+(?:[ \t,#]|$))|,)+")
_PAIR = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|\'([^\']*)\'')
_SPACES = re.compile(r"[ \t]*")
_WORD = re.compile(r"[^ \t]*")
_UNQUOTED = re.compile(r"[A-Za-z0-9_.,/:@%+*^~-]+", re.ASCII)
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "'": "'", "\\": "\\"}
_SPACE = " \t"


class Word(NamedTuple):
    """A word after the host: ``key=value``, or a single word with an empty key."""

    key: str
    value: str
    column: int  # of the value
    length: int
    key_column: int


def strip_comment(line: str) -> str:
    """Return the line without its comment; columns do not change."""
    line = _blank_block_comments(line)
    if "#" not in line and "//" not in line:
        return line.rstrip(_SPACE)
    quotes = '"' in line or "'" in line
    line = _cut_outside_quotes(line) if quotes else _COMMENT.sub("", line)
    return line.rstrip(_SPACE)


def _blank_block_comments(line: str) -> str:
    """Replace each ``/* … */`` by spaces."""
    begin = line.find("/*")
    while begin >= 0 and (end := line.find("*/", begin + 2)) >= 0:
        line = f"{line[:begin]}{' ' * (end + 2 - begin)}{line[end + 2 :]}"
        begin = line.find("/*", end + 2)
    return line


def _cut_outside_quotes(line: str) -> str:
    at = 0
    while at < len(line):
        quoted = _QUOTED.match(line, at) if at and line[at - 1] == "=" else None
        if quoted:
            at = quoted.end()
        elif (line[at] == "#" or line.startswith("//", at)) and (at == 0 or line[at - 1] in _SPACE):
            return line[:at]
        else:
            at += 1
    return line


def split_first_word(text: str) -> tuple[int, str]:
    """Return (column, word) of the host part: ``h1``, ``gpu[01-04],login`` or ``h1, h2``; '#' ends it."""
    start = len(text) - len(text.lstrip(_SPACE))
    match = _FIRST.match(text, start)
    return (start, match[0].rstrip(_SPACE)) if match else (start, "")


def split_words(text: str, start: int) -> Iterator[Word]:
    """Yield the words from column ``start`` on. Spaces around '=' and shell quotes are allowed."""
    at = start
    while True:
        spaces = _SPACES.match(text, at)
        at = spaces.end() if spaces else at
        if at >= len(text):
            return
        pair = _PAIR.match(text, at)
        if pair is None:
            end = _find_word_end(text, at)
            yield Word("", text[at:end], at, end - at, at)
            at = end
            continue
        value_at = pair.end()
        quoted = _QUOTED.match(text, value_at) if text.startswith(('"', "'"), value_at) else None
        if quoted and (quoted.end() == len(text) or text[quoted.end()] in _SPACE):
            value = unescape_text(quoted[1]) if quoted[1] is not None else quoted[2]
            yield Word(pair[1], value, value_at, quoted.end() - value_at, at)
            at = quoted.end()
            continue
        end = _find_word_end(text, value_at)
        value = text[value_at:end]
        if value[:1] in ('"', "'"):
            raise ParseError(f"{value[0]} is not closed", start=value_at, end=len(text))
        if value.endswith(",") and end < len(text):
            raise ParseError(
                f"a space inside {pair[1]}=", f"write {pair[1]}=2,3 without spaces", start=value_at, end=len(text)
            )
        yield Word(pair[1], value, value_at, end - value_at, at)
        at = end


def unescape_text(text: str) -> str:
    """Replace the escapes of double quotes: ``\\n``, ``\\t``, ``\\"`` and a doubled backslash; others stay."""
    return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[0]), text)


def quote_value(value: str) -> str:
    """Quote a value so that the tokenizer reads it back."""
    if _UNQUOTED.fullmatch(value) and "//" not in value and not value.endswith(","):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def _find_word_end(text: str, at: int) -> int:
    match = _WORD.match(text, at)
    return match.end() if match else at
