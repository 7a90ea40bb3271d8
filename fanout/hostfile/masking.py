"""Masking of secrets in a hostfile line, found by the name before them or their place in a command. No I/O.

An error quotes its line. The text goes to terminals, CI logs and tickets, so the quotation must not contain a
password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from fanout.model.credentials import is_secret

MASK = "***"

_VALUE = r"(\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|[^\s\"']\S*)"
_NAMED = re.compile(r"([A-Za-z_][\w.-]{0,128})[\"']?[ \t]{0,64}([=:])[ \t]*")
_TO_NEXT_PAIR = re.compile(r"[^\s,]\S*(?:[ \t]+(?![\w.-]+[ \t]*=|[#/]|-)\S+)*")
_PLACED = (
    re.compile(r"(?i)\b(?:sshpass|login)\b.{0,200}?[ \t]-p[ \t]*" + _VALUE),
    re.compile(r"(?i)(?:passw(?:or)?d|passphrase|secret|token|-pw)[ \t]+" + _VALUE),
    re.compile(r"(?i)[ \t](?:-u|--user)[ \t]{0,64}[\"']?[\w.@\\-]{1,128}:" + _VALUE),
    re.compile(r"(?:^|[\s,'\"=(]|//)[^\s:@,/]{0,128}:(?!//)([^\s,]{1,512})@"),  # user:password@host
    re.compile(r"://([^\s/@:]{20,})@"),  # a token in place of the user
)
_HARMLESS = re.compile(r"(?i)(?:yes|no|on|off|true|false|none|null|~|\d|)")
_NOT_SECRET = re.compile(r"(?i)(?:_file|_path|authentication|prompts)$")
_LIKE_SECRET = re.compile(r"(?i)^env\.|^(?:ansible_)?become_")


class MaskedLine(NamedTuple):
    """A line without its secrets, and the secrets with their places in the original line."""

    text: str
    places: tuple[tuple[int, int], ...]
    secrets: tuple[str, ...]

    def map_column(self, column: int) -> int:
        """Return the position in the masked line of a column of the original line."""
        moved = 0
        for start, end in self.places:
            if column <= start:
                break
            if column < end:
                return start + moved
            moved += len(MASK) - (end - start)
        return column + moved


def mask_secrets(line: str) -> MaskedLine:
    """Return the line with ``***`` for each secret in it."""
    places = _merge_places(sorted(_find_secrets(line)))
    text, at = "", 0
    for start, end in places:
        text += line[at:start] + MASK
        at = end
    secrets = tuple(line[start:end] for start, end in places)
    return MaskedLine(text + line[at:], tuple(places), secrets)


def remove_secrets(secrets: tuple[str, ...], text: str) -> str:
    """Return the text with ``***`` for each of the secrets, and for each word of one."""
    parts = [part for secret in secrets for part in (secret, secret.strip("\"'"), *secret.split())]
    words = {form for part in parts for form in (part, repr(part)[1:-1])}
    for word in sorted(words, key=len, reverse=True):
        if len(word) > 1:
            text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", MASK, text)
    return text


def _find_secrets(line: str) -> Iterator[tuple[int, int]]:
    for found in _NAMED.finditer(line):
        if _is_secret_name(found[1]):
            in_table = found[2] == ":" and "{" in line[: found.start()]
            yield from _find_value(line, found.end(), in_table=in_table, any_value=found[1].startswith("env."))
        elif found[1] == "env" and line[found.end() : found.end() + 1] == "{":
            yield found.end() + 1, len(line)
    for pattern in _PLACED:
        for found in pattern.finditer(line):
            if not _HARMLESS.fullmatch(found[1]):
                yield found.span(1)


def _is_secret_name(name: str) -> bool:
    return not _NOT_SECRET.search(name) and bool(is_secret(name) or _LIKE_SECRET.search(name))


def _find_value(line: str, start: int, *, in_table: bool, any_value: bool) -> Iterator[tuple[int, int]]:
    """Yield the place of the value that begins at ``start``, with the words behind it that may be a part of it."""
    found = re.compile(_VALUE).match(line, start) if line[start : start + 1] in ("'", '"') else None
    found = found or (re.compile(r"[^,}\]]+") if in_table else _TO_NEXT_PAIR).match(line, start)
    if found and (any_value or not _HARMLESS.fullmatch(found[0].strip())):
        yield found.start(), found.end()


def _merge_places(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in places:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
