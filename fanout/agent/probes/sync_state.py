"""State of a sync in its directory: the lock, the manifest of the last sync, and the token that finds shared directories.

The lock separates two syncs. The manifest lists the files that syncs created, which alone ``--delete`` may delete.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import time

from .files import find_mount
from .probe_tools import FactUnavailable
from .shared_dir import LOCAL_FILE_SYSTEMS
from .sync_paths import STATE, TOKEN, split_path
from .sync_tree import BlockedPath, SyncTree

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
_LARGEST_MANIFEST = 256 << 20
_STALE_SECONDS = 3600.0  # no sync needs its token for as long
_WAIT_SECONDS = 3.0  # for a token on a network file system, which may cache a directory
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC


def create_token(top: str) -> str:
    """Create an empty file with a random name in the directory; return the name. Raises OSError."""
    _delete_stale_tokens(top)
    name = "%s-%s" % (STATE, secrets.token_hex(8))
    os.close(os.open(os.path.join(top, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o644))
    return name


def delete_token(top: str, name: str) -> None:
    try:
        os.unlink(os.path.join(top, name))
    except OSError:
        pass


def _delete_stale_tokens(top: str) -> None:
    """Delete the tokens of hosts that lost power: empty files of this user with such a name."""
    for name in os.listdir(top):
        if TOKEN.fullmatch(name):
            seen = os.lstat(os.path.join(top, name))
            if not seen.st_size and seen.st_uid == os.geteuid() and time.time() - seen.st_mtime > _STALE_SECONDS:
                delete_token(top, name)


def find_tokens(top: str, names: list[str]) -> list[int]:
    """Return the numbers of the tokens that this directory has. Only a network file system is waited for."""
    is_local = find_mount(top).get("type") in LOCAL_FILE_SYSTEMS
    until = time.monotonic() + (0.0 if is_local else _WAIT_SECONDS)
    while True:
        seen = [number for number, name in enumerate(names) if name and os.path.lexists(os.path.join(top, name))]
        if len(seen) == len(names) or time.monotonic() >= until:
            return seen
        os.listdir(top)  # makes some file systems refresh their cache
        time.sleep(0.2)


def lock_target(tree: SyncTree, by: str) -> tuple[int, bool]:
    """Return a descriptor that locks the directory until it is closed, and whether the file system has locks.

    Raises FactUnavailable if another sync holds the lock.
    """
    folder = tree.open_directory([STATE], create=True)
    _write_new_file(folder, ".gitignore", b"*\n")
    descriptor = os.open("lock", os.O_RDWR | os.O_CREAT | _OPEN, 0o644, dir_fd=folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace")
        os.close(descriptor)
        raise FactUnavailable("another sync writes to %s: that of %s" % (tree.top, holder or "?")) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            os.close(descriptor)
            raise
        return descriptor, False
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, by.encode("utf-8", "replace")[:200], 0)
    return descriptor, True


def read_manifest(tree: SyncTree) -> dict[str, list[Any]]:
    """Return the rows of the last sync by path; {} if there was none, or if its file cannot be understood."""
    try:
        folder = tree.open_directory([STATE])
        descriptor = os.open("manifest.json", os.O_RDONLY | os.O_NONBLOCK | _OPEN, dir_fd=folder)
        with open(descriptor, "rb") as file:
            stored = json.loads(file.read(_LARGEST_MANIFEST).decode("ascii"))
        rows = {row[0]: row for row in stored["rows"] if _is_row(row)} if stored["version"] == VERSION else {}
    except (OSError, ValueError, KeyError, TypeError, IndexError, BlockedPath):
        return {}
    return rows


def _is_row(row: Any) -> bool:
    """Return whether a row has the form and a path that this program writes."""
    try:
        split_path(row[0])
    except FactUnavailable:
        return False
    return len(row) == 4 and row[1] in (0, 1, 2) and isinstance(row[2], int) and isinstance(row[3], str)


def write_manifest(tree: SyncTree, rows: list[list[Any]]) -> None:
    """Replace the manifest of the directory. Raises OSError."""
    folder = tree.open_directory([STATE], create=True)
    temporary = "manifest-%s" % secrets.token_hex(8)
    _write_new_file(folder, temporary, json.dumps({"version": VERSION, "rows": rows}).encode("ascii"))
    os.rename(temporary, "manifest.json", src_dir_fd=folder, dst_dir_fd=folder)


def _write_new_file(folder: int, name: str, data: bytes) -> None:
    """Write a file that does not exist yet; one that exists stays as it is."""
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o644, dir_fd=folder)
    except FileExistsError:
        return
    with open(descriptor, "ab") as file:
        file.write(data)
