"""Launcher file: reads the number of hosts, or a few named values, from the file that a launcher would read."""

from __future__ import annotations

import os
import re

from .probe_tools import read_or_empty

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

_LARGEST = 64 << 10


def read_launcher_file(
    words: list[str], cwd: str, env: dict[str, str], launcher: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the values of the known keys and the number of lines; None if the launcher reads no file.

    A file that the command line names and that does not exist is an error. Only values of known keys leave the host.
    """
    named = _find_value(words, launcher["file_flags"])
    if not named and not launcher["file_default"]:
        return None
    path = os.path.join(cwd, os.path.expanduser(named)) if named else _find_default(launcher["file_default"], env)
    if not os.path.isfile(path):
        return {"path": named, "values": {}, "lines": 0, "error": "it does not exist"} if named else None
    text = read_or_empty(path)[:_LARGEST]
    values = {}
    for key in launcher["keys"]:
        found = re.search(r"""^\s*["']?%s["']?\s*:\s*["']?([^"'#,\n]*)""" % re.escape(key), text, re.MULTILINE)
        if found:
            values[key] = found.group(1).strip()[:200]
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    return {"path": path, "values": values, "lines": len(lines)}


def _find_value(words: list[str], flags: list[str]) -> str:
    """Return the value of the first of these flags; "" if none is there."""
    for at, word in enumerate(words):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name in flags:
            return value if equals else "".join(words[at + 1 : at + 2])
    return ""


def _find_default(default: str, env: dict[str, str]) -> str:
    """Return the path of the file without a flag; a relative one is below the directory of Hugging Face."""
    cache = env.get("XDG_CACHE_HOME") or os.path.join(env.get("HOME", ""), ".cache")
    return os.path.join(env.get("HF_HOME") or os.path.join(cache, "huggingface"), default)
