"""Projects for the tests of sync: files by path, with any bytes in their names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from fanout.sync.manifest import encode_path

#: Names that break programs which print, split or decode them.
STRANGE = (
    "a b",
    "new\nline",
    "tab\t",
    "-n",
    "caf\u00e9",
    "\udcff\udcfe",
    "'quote\"",
    "$(x)",
    "*",
    "...",
    "..x",
    "~",
    "\\",
    "#",
)


def write_files(top: Path, files: Mapping[str, bytes | str]) -> Path:
    """Write files by path; a text is the target of a link. Return the directory."""
    for path, content in files.items():
        full = encode_path(f"{top}/{path}")
        os.makedirs(os.path.dirname(full), exist_ok=True)
        if isinstance(content, str):
            os.symlink(encode_path(content), full)
        else:
            with open(full, "wb") as file:
                file.write(content)
    return top


def read_files(top: Path) -> dict[str, bytes | str]:
    """Return all files and links below a directory, except what a sync keeps there for itself."""
    found: dict[str, bytes | str] = {}
    raw = os.fsencode(top)
    for folder, folders, names in os.walk(raw):
        for name in [*names, *(each for each in folders if os.path.islink(os.path.join(folder, each)))]:
            full = os.path.join(folder, name)
            path = os.path.relpath(full, raw).decode("utf-8", "surrogateescape")
            if not path.startswith((".fanout-sync/", ".git/")):
                found[path] = (
                    os.readlink(full).decode("utf-8", "surrogateescape") if os.path.islink(full) else _read_file(full)
                )
    return found


def _read_file(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()
