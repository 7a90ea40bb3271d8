"""Manifest: the files of a project with their hashes, and one hash of them all. Pure.

A path is text in UTF-8; bytes that are no UTF-8 are surrogates, so that each name of a file system has exactly one text.
"""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from fanout.model.frozen import frozen

DIGEST_BYTES = 16
MOST_FILES = 100_000  # the agent has the same limit


class FileKind(enum.IntEnum):
    """Kind of an entry; the numbers are those of the agent's rows."""

    FILE = 0
    EXECUTABLE = 1
    LINK = 2


@frozen
class ProjectFile:
    """One file or link of a project. ``content`` is the hash of a file, or the text of a link."""

    path: str
    kind: FileKind
    size: int
    content: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All files of a project, sorted by path."""

    files: tuple[ProjectFile, ...]

    @cached_property
    def encoded(self) -> bytes:
        """Return the rows as JSON in ASCII, the form that the agent reads."""
        rows = [[file.path, int(file.kind), file.size, file.content] for file in self.files]
        return json.dumps(rows, separators=(",", ":")).encode("ascii")

    @cached_property
    def digest(self) -> str:
        """Return the hash of all paths, kinds and contents, as 16 hex digits."""
        return hashlib.blake2b(self.encoded, digest_size=8).hexdigest()

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files if file.kind is not FileKind.LINK)


def build_manifest(files: list[ProjectFile]) -> Manifest:
    """Return the manifest of these files, in any order."""
    return Manifest(files=tuple(sorted(files, key=lambda file: file.path)))


def decode_path(name: bytes) -> str:
    """Return the text of a name, which has exactly one."""
    return name.decode("utf-8", "surrogateescape")


def encode_path(path: str) -> bytes:
    """Return the bytes of a name, whatever the locale of the launcher is."""
    return path.encode("utf-8", "surrogateescape")
