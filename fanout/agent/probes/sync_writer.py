"""Writer of a sync: receives files under temporary names, then renames them, and deletes what an earlier sync created.

Nothing is replaced before all files have arrived. So a full disk, a lost connection or a killed launcher leaves the old
files, and each rename leaves an old or a new file as a whole.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat

from .probe_tools import FactUnavailable
from .sync_paths import STATE, TEMPORARY, split_path
from .sync_tree import DIGEST_BYTES, EXECUTABLE, BlockedPath, SyncTree

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class SyncWriter:
    """The files that arrive, each under its temporary name, until they are published or discarded."""

    def __init__(self, tree: SyncTree, rows: list[list[Any]]) -> None:
        self._tree = tree
        self._rows = rows
        self._nonce = secrets.token_hex(8)
        self._staged: dict[int, tuple[list[str], str]] = {}  # row -> (path, temporary name)
        self._open: tuple[int, int, Any] | None = None  # row, descriptor, hash of the file that arrives now
        self.changed: list[str] = []  # files that changed while the launcher read them

    def begin_file(self, index: int) -> None:
        """Create the temporary file of a row."""
        names, temporary, folder = self._prepare_file(index)
        mode = 0o777 if self._rows[index][1] == EXECUTABLE else 0o666
        descriptor = os.open(temporary, _CREATE, mode, dir_fd=folder)
        self._staged[index] = (names, temporary)
        self._open = (index, descriptor, hashlib.blake2b(digest_size=DIGEST_BYTES))

    def _prepare_file(self, index: int) -> tuple[list[str], str, int]:
        """Return the path of a row, its temporary name, and a descriptor of its directory, which is created if needed."""
        names = split_path(self._rows[index][0])
        folder = self._tree.open_directory(names[:-1], create=True)
        return names, "%s-%s-%d" % (STATE, self._nonce, index), folder

    def add_bytes(self, data: bytes) -> None:
        """Append bytes to the file that arrives now."""
        assert self._open is not None
        self._open[2].update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._open[1], view) :]

    def end_file(self, *, replaces: bool) -> None:
        """Close the file. One that ``replaces`` another is written to the disk first, in case the power fails."""
        assert self._open is not None
        index, descriptor, digest = self._open
        self._open = None
        try:
            if replaces:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if digest.hexdigest() != self._rows[index][3]:
            self.changed.append(self._rows[index][0])
            self._discard_file(index)

    def add_link(self, index: int) -> None:
        """Create the link of a row under its temporary name."""
        names, temporary, folder = self._prepare_file(index)
        os.symlink(self._rows[index][3], temporary, dir_fd=folder)
        self._staged[index] = (names, temporary)

    def check_complete(self, wanted: set[int]) -> None:
        """Raise FactUnavailable unless each of these rows has arrived, or has changed meanwhile."""
        changed = set(self.changed)
        missing = [index for index in sorted(wanted - set(self._staged)) if self._rows[index][0] not in changed]
        if missing:
            raise FactUnavailable("%d files did not arrive, nothing was changed" % len(missing), "failed")

    def publish_files(self) -> int:
        """Rename all files to their names; return their number. Raises OSError, BlockedPath."""
        count = 0
        for index in sorted(self._staged):
            names, temporary = self._staged[index]
            folder = self._tree.open_directory(names[:-1])
            os.rename(temporary, names[-1], src_dir_fd=folder, dst_dir_fd=folder)
            del self._staged[index]
            count += 1
        return count

    def discard_files(self) -> None:
        """Delete what has arrived and was not published."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None
        for index in list(self._staged):
            self._discard_file(index)

    def _discard_file(self, index: int) -> None:
        names, temporary = self._staged.pop(index)
        try:
            os.unlink(temporary, dir_fd=self._tree.open_directory(names[:-1]))
        except (OSError, BlockedPath):
            pass  # the next sync deletes it


def set_executable(tree: SyncTree, names: list[str], executable: bool) -> None:
    """Set or clear the executable bits of a regular file. Raises OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(names[-1], flags, dir_fd=tree.open_directory(names[:-1]))
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o777
        os.fchmod(descriptor, mode | (mode & 0o444) >> 2 if executable else mode & ~0o111)
    finally:
        os.close(descriptor)


def delete_earlier(tree: SyncTree, rows: list[list[Any]]) -> int:
    """Delete the files of these rows that still are what an earlier sync wrote, and the directories that become empty."""
    count = 0
    folders: set[tuple[str, ...]] = set()
    for row in rows:
        names = split_path(row[0])
        if tree.is_unchanged(names, row):
            os.unlink(names[-1], dir_fd=tree.open_directory(names[:-1]))
            count += 1
            folders.update(tuple(names[:length]) for length in range(1, len(names)))
    for folder in sorted(folders, key=len, reverse=True):
        try:
            os.rmdir(folder[-1], dir_fd=tree.open_directory(list(folder[:-1])))
        except (OSError, BlockedPath):
            pass  # it is not empty
    return count


def delete_stale_temporaries(tree: SyncTree, names: list[str], entries: list[tuple[str, bool]]) -> None:
    """Delete the temporary files that a killed sync left in this directory. The caller holds the lock of the target."""
    folder = tree.open_directory(names)
    for name, is_directory in entries:
        if TEMPORARY.fullmatch(name) and not is_directory:
            seen = os.lstat(name, dir_fd=folder)
            if seen.st_uid == os.geteuid() and (stat.S_ISREG(seen.st_mode) or stat.S_ISLNK(seen.st_mode)):
                os.unlink(name, dir_fd=folder)
