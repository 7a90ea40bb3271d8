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
    named, given = (_find_values(words, launcher.get(kind, ())) for kind in ("file_flags", "config_flags"))
    named = [name for name in named if name not in launcher.get("built_in_files", ())]
    default = _find_default(launcher["file_default"], env) if launcher["file_default"] and not named else ""
    missing = [name for name in named + given if not os.path.isfile(_resolve_path(name, cwd))]
    if missing:
        return {"path": missing[0], "values": {}, "lines": 0, "error": "it does not exist"}
    paths = [default] if os.path.isfile(default) else []
    paths += [_resolve_path(name, cwd) for name in named + given]
    if not paths:
        return None
    texts = [read_or_empty(path)[:_LARGEST] for path in paths]
    values = {}
    for key in launcher["keys"]:
        pattern = r"""^\s*["']?%s["']?\s*:\s*["']?([^"'#,\n]*)""" % re.escape(key)
        found = [match for match in (re.search(pattern, text, re.MULTILINE) for text in texts) if match]
        if found:
            values[key] = found[-1].group(1).strip()[:200]
    lines = [line for line in texts[0].splitlines() if line.strip() and not line.strip().startswith("#")]
    return {"path": paths[0], "values": values, "lines": len(lines)}


def _find_values(words: list[str], flags: list[str]) -> list[str]:
    """Return the values of these flags on a command line."""
    found = []
    for at, word in enumerate(words):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name in flags:
            found.append(value if equals else "".join(words[at + 1 : at + 2]))
    return [value for value in found if value][:1]


def _resolve_path(name: str, cwd: str) -> str:
    return os.path.join(cwd, os.path.expanduser(name))


def _find_default(default: str, env: dict[str, str]) -> str:
    """Return the path of the file without a flag; a relative one is below the directory of Hugging Face."""
    cache = env.get("XDG_CACHE_HOME") or os.path.join(env.get("HOME", ""), ".cache")
    return os.path.join(env.get("HF_HOME") or os.path.join(cache, "huggingface"), default)
