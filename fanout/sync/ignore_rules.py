"""Ignore rules: the patterns of .gitignore and .fanoutignore, as gitignore(5) defines them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fanout.model.frozen import frozen


@frozen
class IgnoreRule:
    """One pattern. ``base`` is the directory of its file, "" or with a slash at the end."""

    base: str
    pattern: re.Pattern[str]
    negated: bool
    only_directories: bool

    def is_match(self, path: str, *, is_directory: bool) -> bool:
        """Return whether the pattern matches this path below the top directory."""
        if (self.only_directories and not is_directory) or not path.startswith(self.base):
            return False
        return bool(self.pattern.fullmatch(path, len(self.base)))


def parse_ignore_file(text: str, base: str = "") -> list[IgnoreRule]:
    """Return the rules of a file in the directory ``base``."""
    if base and not base.endswith("/"):
        base += "/"
    rules = [_parse_line(line.removesuffix("\r"), base) for line in text.removeprefix("\ufeff").split("\n")]
    return [rule for rule in rules if rule is not None]


def is_entry_ignored(rules: Sequence[IgnoreRule], path: str, *, is_directory: bool) -> bool:
    """Return whether the rules exclude this entry of a directory that is not excluded itself. The last match counts."""
    for rule in reversed(rules):
        if rule.is_match(path, is_directory=is_directory):
            return not rule.negated
    return False


def is_path_ignored(rules: Sequence[IgnoreRule], path: str, *, is_directory: bool = False) -> bool:
    """Return whether the rules exclude this path, or a directory that contains it."""
    if not rules:
        return False
    at = path.find("/")
    while at >= 0:
        if is_entry_ignored(rules, path[:at], is_directory=True):
            return True
        at = path.find("/", at + 1)
    return is_entry_ignored(rules, path, is_directory=is_directory)


def keep_unignored(rules: Sequence[IgnoreRule], paths: Iterable[str]) -> list[str]:
    """Return the paths that the rules do not exclude. A directory ends with a slash."""
    return [path for path in paths if not is_path_ignored(rules, path.rstrip("/"), is_directory=path.endswith("/"))]


def _parse_line(line: str, base: str) -> IgnoreRule | None:
    line = _strip_spaces(line)
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    line = line[1:] if negated else line
    only_directories = line.endswith("/") and not line.endswith("\\/")
    line = line.removesuffix("/") if only_directories else line
    anchored = "/" in line
    line = line.removeprefix("/")
    if not line:
        return None
    body = _translate_pattern(line)
    if body is None:
        return None
    prefix = "" if anchored else "(?:.*/)?"
    pattern = re.compile(prefix + body, re.DOTALL)
    return IgnoreRule(base=base, pattern=pattern, negated=negated, only_directories=only_directories)


def _strip_spaces(line: str) -> str:
    """Remove the spaces at the end, except one after a backslash."""
    stripped = line.rstrip(" ")
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if backslashes % 2 and len(stripped) < len(line) else stripped


def _translate_pattern(glob: str) -> str | None:
    """Return the regular expression of a glob; None if the glob can match nothing."""
    parts: list[str] = []
    at = 0
    while at < len(glob):
        char = glob[at]
        if glob.startswith("**", at) and (at == 0 or glob[at - 1] == "/"):
            if glob[at + 2 : at + 3] == "/":
                parts.append("(?:.*/)?")
                at += 3
                continue
            if at + 2 == len(glob):
                parts.append(".*" if at == 0 else ".+")
                at += 2
                continue
        if char == "*":
            parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "[":
            end = _find_set_end(glob, at)
            if end < 0:
                return None  # as in git: an open bracket without its end matches nothing
            parts.append(_translate_set(glob[at + 1 : end]))
            at = end
        elif char == "\\":
            at += 1
            if at == len(glob):
                return None
            parts.append(re.escape(glob[at]))
        else:
            parts.append(re.escape(char))
        at += 1
    return "".join(parts)


def _find_set_end(glob: str, start: int) -> int:
    at = start + 1
    if glob[at : at + 1] in ("!", "^"):
        at += 1
    first = at
    while at < len(glob):
        if glob[at] == "\\":
            at += 1
        elif glob[at] == "]" and at > first:
            return at
        at += 1
    return -1


def _translate_set(body: str) -> str:
    negated = body[:1] in ("!", "^")
    body = body[1:] if negated else body
    items: list[str] = []
    at = 0
    while at < len(body):
        at += body[at] == "\\" and at + 1 < len(body)
        low, high = body[at], body[at]
        if body[at + 1 : at + 2] == "-" and at + 2 < len(body):
            at += 2
            at += body[at] == "\\" and at + 1 < len(body)
            high = body[at]
        if low <= high:
            items.append(f"{re.escape(low)}-{re.escape(high)}" if low != high else re.escape(low))
        at += 1
    if not items:
        return "[^/]" if negated else r"(?!)"
    return f"(?!/)[{'^' if negated else ''}{''.join(items)}]"
