"""``--env-file``: exports from a file of NAME=VALUE lines, read by python-dotenv: quotes, comments, ``export``, several lines.

Values are never expanded. A ``$NAME`` that a shell would expand is reported, because the file was perhaps written for one.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

from fanout.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[^}\n]*\}|\([^)\n]*\))")
_LITERAL = re.compile(r"[^=]*=\s*'")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFile:
    """The pairs in their order, and what the user should know about them."""

    pairs: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


def read_env_file(path: str) -> EnvFile:
    """Read the file. Raises UsageError with the line."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise UsageError(f"--env-file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--env-file {path}: not UTF-8 text") from None
    return parse_env_file(text, path)


def parse_env_file(text: str, path: str) -> EnvFile:
    """Return what the text of the file at ``path`` sets. Pure. Raises UsageError with the line, never with a value."""
    from dotenv.parser import parse_stream

    pairs: list[tuple[str, str]] = []
    warnings = []
    for binding in parse_stream(io.StringIO(text)):
        source = binding.original.string
        blank = len(source) - len(source.lstrip())
        where = f"{path}:{binding.original.line + source[:blank].count(chr(10))}"
        if binding.error or (binding.key is not None and binding.value is None):
            raise UsageError(f"{where}: not NAME=VALUE", hint=_advice(source))  # the line may be half of a secret
        if binding.key is None or binding.value is None:
            continue
        if not _NAME.fullmatch(binding.key):
            raise UsageError(f"{where}: {binding.key[:60]!r} is not a name for an environment variable")
        pairs.append((binding.key, binding.value))
        found = _VARIABLE.search(binding.value)
        if found and not _LITERAL.match(source.lstrip()):
            warnings.append(f"{where}: {binding.key}: {found[0]} is not expanded; ranks get these characters")
    return EnvFile(pairs=tuple(pairs), warnings=tuple(warnings))


def _advice(source: str) -> str:
    _, equals, value = source.strip().partition("=")
    quote = value.lstrip()[:1]
    if equals and quote in ("'", '"') and value.count(quote) % 2:
        return f"the quote {quote} is not closed"
    return "one NAME=VALUE a line; a # begins a comment; a value with blanks, # or line ends stands in quotes"
