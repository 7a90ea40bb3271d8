"""``--env-file``: read exports from a .env file with python-dotenv (quotes, comments, ``export``, multi-line values).

Values are never expanded. A ``$NAME`` that a shell would expand is reported, because the file may be made for a shell.
"""

from __future__ import annotations

import io
import re

from fanout.model.errors import UsageError
from fanout.model.frozen import frozen

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[^}\n]*\}|\([^)\n]*\))")
_LITERAL = re.compile(r"[^=]*=\s*'")


@frozen
class EnvFile:
    """Variables of a .env file in their order, and warnings about them."""

    pairs: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]


def read_env_file(path: str) -> EnvFile:
    """Read the file. Raises UsageError with the line number."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise UsageError(f"--env-file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"--env-file {path}: not UTF-8 text") from None
    return parse_env_file(text, path)


def parse_env_file(text: str, path: str) -> EnvFile:
    """Return the variables in the text of the file ``path``. Pure. Raises UsageError with the line, never a value."""
    from dotenv.parser import parse_stream

    pairs: list[tuple[str, str]] = []
    warnings = []
    for binding in parse_stream(io.StringIO(text)):
        source = binding.original.string
        blank = len(source) - len(source.lstrip())
        where = f"{path}:{binding.original.line + source[:blank].count(chr(10))}"
        if binding.error or (binding.key is not None and binding.value is None):
            raise UsageError(f"{where}: not NAME=VALUE", hint=_build_hint(source))  # the line may be half of a secret
        if binding.key is None or binding.value is None:
            continue
        if not _NAME.fullmatch(binding.key):
            raise UsageError(f"{where}: {binding.key[:60]!r} is not a name for an environment variable")
        pairs.append((binding.key, binding.value))
        found = _VARIABLE.search(binding.value)
        if found and not _LITERAL.match(source.lstrip()):
            warnings.append(f"{where}: {binding.key}: {found[0]} is not expanded; ranks get it literally")
    return EnvFile(pairs=tuple(pairs), warnings=tuple(warnings))


def _build_hint(source: str) -> str:
    _, equals, value = source.strip().partition("=")
    quote = value.lstrip()[:1]
    if equals and quote in ("'", '"') and value.count(quote) % 2:
        return f"the quote {quote} is not closed"
    return "write one NAME=VALUE per line; # starts a comment; quote a value with blanks, # or line breaks"
