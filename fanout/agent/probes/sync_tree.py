"""File tree of a sync: opens, compares, creates and renames below one directory, and follows no link there.

Each directory is opened by its name in its parent, with O_NOFOLLOW. So no path of a sync leaves the directory, also if
another process replaces a directory by a link meanwhile.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat

from .sync_paths import LINK

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

EXECUTABLE = 1  # kind of a row of the manifest
#: How a path compares: equal, absent, other content, other executable bit, in the way.
EQUAL, NEW, CHANGED, MODE, BLOCKED = "=", "+", "~", "x", "!"
DIGEST_BYTES = 16
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a fifo must not block
_KEPT_OPEN = 32


class BlockedPath(Exception):
    """Something on the host is where the project has a file or a directory; the text names what it is."""


class SyncTree:
    """One directory, with descriptors of the directories used last."""

    def __init__(self, top: str) -> None:
        self.top = top
        self._opened: dict[tuple[str, ...], int] = {(): os.open(top, _DIRECTORY)}

    def close(self) -> None:
        for descriptor in self._opened.values():
            os.close(descriptor)
        self._opened = {}

    def open_directory(self, names: list[str], *, create: bool = False) -> int:
        """Return a descriptor of a directory below the top. Raises BlockedPath, OSError (also if it does not exist)."""
        key = tuple(names)
        if key not in self._opened:
            above = self.open_directory(names[:-1], create=create)
            opened = self._open_child(above, names, create)
            if len(self._opened) >= _KEPT_OPEN:
                self._close_unrelated(key)
            self._opened[key] = opened
        return self._opened[key]

    def _open_child(self, above: int, names: list[str], create: bool) -> int:
        try:
            return os.open(names[-1], _DIRECTORY, dir_fd=above)
        except FileNotFoundError:
            if not create:
                raise
            os.mkdir(names[-1], dir_fd=above)
            return os.open(names[-1], _DIRECTORY, dir_fd=above)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                kind = describe_kind(os.lstat(names[-1], dir_fd=above))
                raise BlockedPath("%s is %s there, and a directory here" % ("/".join(names), kind)) from None
            raise

    def _close_unrelated(self, key: tuple[str, ...]) -> None:
        """Close the directories that do not contain this one."""
        for other in [each for each in self._opened if key[: len(each)] != each]:
            os.close(self._opened.pop(other))

    def find_entry(self, names: list[str]) -> os.stat_result | None:
        """Return the entry at a path, None if there is none. Raises BlockedPath, OSError."""
        try:
            return os.lstat(names[-1], dir_fd=self.open_directory(names[:-1]))
        except FileNotFoundError:
            return None

    def hash_file(self, names: list[str]) -> str:
        """Return the hash of a regular file. Raises OSError."""
        descriptor = os.open(names[-1], _READ, dir_fd=self.open_directory(names[:-1]))
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        with open(descriptor, "rb", buffering=0) as file:
            while True:
                data = file.read(1 << 20)
                if not data:
                    return digest.hexdigest()
                digest.update(data)

    def read_link(self, names: list[str]) -> str:
        return os.readlink(names[-1], dir_fd=self.open_directory(names[:-1]))

    def compare_row(self, names: list[str], row: list[Any], earlier: list[Any] | None) -> str:
        """Return how a path compares with its row of the manifest: (path, kind, size, hash or text of the link).

        A link is replaced only if an ``earlier`` sync created it. Raises BlockedPath, OSError.
        """
        seen = self.find_entry(names)
        if seen is None:
            return NEW
        kind, size, content = int(row[1]), int(row[2]), row[3]
        if stat.S_ISLNK(seen.st_mode):
            text = self.read_link(names)
            if kind == LINK and text == content:
                return EQUAL
            if earlier is not None and earlier[1] == LINK and earlier[3] == text:
                return CHANGED
            raise BlockedPath("%s is a link to %s there" % (row[0], text))
        if not stat.S_ISREG(seen.st_mode):
            raise BlockedPath("%s is %s there" % (row[0], describe_kind(seen)))
        if kind == LINK:
            if earlier is not None and self.is_unchanged(names, earlier):
                return CHANGED
            raise BlockedPath("%s is a file there, and a link here" % row[0])
        if seen.st_size != size or self.hash_file(names) != content:
            return CHANGED
        return EQUAL if bool(seen.st_mode & stat.S_IXUSR) == (kind == EXECUTABLE) else MODE

    def is_unchanged(self, names: list[str], row: list[Any]) -> bool:
        """Return whether the entry still is what an earlier sync wrote. Raises OSError."""
        try:
            seen = self.find_entry(names)
            if seen is None:
                return False
            if int(row[1]) == LINK:
                return stat.S_ISLNK(seen.st_mode) and self.read_link(names) == row[3]
            return stat.S_ISREG(seen.st_mode) and seen.st_size == row[2] and self.hash_file(names) == row[3]
        except BlockedPath:
            return False

    def list_entries(self, names: list[str]) -> list[tuple[str, bool]]:
        """Return (name, whether it is a directory) of all entries of a directory. Raises BlockedPath, OSError."""
        with os.scandir(self.open_directory(names)) as entries:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)


def describe_kind(seen: os.stat_result) -> str:
    """Return what an entry is, with its article."""
    kinds = {
        stat.S_IFLNK: "a link",
        stat.S_IFDIR: "a directory",
        stat.S_IFREG: "a file",
        stat.S_IFIFO: "a fifo",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(seen.st_mode), "no file")
