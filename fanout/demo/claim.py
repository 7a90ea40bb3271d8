"""A directory that is ours alone while a demo uses it, and that never costs anyone a file that we did not make.

A mark inside says that we made what is there; a lock on the mark says that somebody uses it now. A directory with other
things in it and no mark is refused, and one that a killed demo left behind is taken over.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fanout.errors import LauncherError, UsageError

MARK = ".fanout-demo"
_UNWRITABLE = '"%\\$'  # ssh_config gives these a meaning of its own, inside double quotes too


@contextmanager
def claimed(directory: Path, *, keep: bool) -> Iterator[Path]:
    """The directory by its real path, mode 0700 and locked; at the end emptied, and removed if we made it."""
    root = Path(os.path.realpath(directory))
    if not str(root).isprintable() or any(mark in str(root) for mark in _UNWRITABLE):
        raise UsageError(
            f"{root}: an ssh_config cannot hold this path (it has one of {' '.join(_UNWRITABLE)} or a control character)",
            hint="name another directory for the demo",
        )
    made = _make(root)
    lock = _lock(root)
    try:
        yield root
    finally:
        try:
            if not keep:
                _clear(root, whole=made)
        finally:
            os.close(lock)


def _make(root: Path) -> bool:
    """Make sure that it is there and fit to use; True if a demo made it, now or earlier."""
    try:
        os.mkdir(root, 0o700)
        return True
    except FileExistsError:
        pass
    except OSError as error:
        raise UsageError(f"{root}: cannot make the demo's directory: {error.strerror}") from error
    try:
        status = os.lstat(root)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise UsageError(f"{root}: is not a directory of yours", hint="name another directory for the demo")
        names = os.listdir(root)
        if names and MARK not in names:
            raise UsageError(f"{root}: holds files that no demo made", hint="name an empty or a new directory")
        os.chmod(root, 0o700)
    except OSError as error:
        raise UsageError(f"{root}: cannot be the demo's directory: {error.strerror}") from error
    return bool(names)


def _lock(root: Path) -> int:
    try:
        mark = os.open(root / MARK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{root}: cannot be the demo's directory: {error.strerror}") from error
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(mark)
        raise UsageError(f"{root}: another demo is using it", hint="end that one, or name another directory") from error
    return mark


def _clear(root: Path, *, whole: bool) -> None:
    try:
        for entry in tuple(os.scandir(root)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry)
            else:
                os.unlink(entry)
        if whole:
            os.rmdir(root)
    except OSError as error:
        raise LauncherError(
            f"{error.filename}: cannot be removed: {error.strerror}", hint=f"rm -r {root} once nothing uses it"
        ) from error
