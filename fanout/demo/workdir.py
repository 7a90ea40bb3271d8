"""Demo directory: private and locked while a demo uses it. A file that no demo made is never deleted.

A mark file shows that a demo used the directory. A lock on the mark shows that a demo uses it now. A directory with
files but without the mark is refused. The directory of a killed demo is used again. At the end the demo deletes its
own files, by their names.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fanout.model.errors import LauncherError, UsageError

MARK = ".fanout-demo"
FILES = ("hosts.txt", "ssh_config", "known_hosts", "id_ed25519")
IGNORE = ".gitignore"  # so that neither git nor a sync copies the demo's key
PROJECT = "project"  # the work directory of the demo's own task, with copies of these files
PROJECT_FILES = ("train.sh", "task.py", "torch_task.py")
SWITCH = "power-switch"  # a named pipe: a rank writes the name of the host that the demo then disconnects
STATE = "state"  # the state directory of the agents, in the directory of each simulated host
HOST = re.compile(r"127\.0\.0\.\d+|demo\d+")
_UNWRITABLE = '"%\\$'  # characters with a special meaning in ssh_config, also inside double quotes


def is_usable_path(root: str) -> bool:
    """Return whether an ssh_config can hold the path."""
    return root.isprintable() and not any(mark in root for mark in _UNWRITABLE)


@contextmanager
def claim_directory(directory: Path, *, keep: bool) -> Iterator[Path]:
    """Yield the directory's real path, mode 0700 and locked; at the end delete what the demo made in it."""
    root = Path(os.path.realpath(directory))
    if not is_usable_path(str(root)):
        raise UsageError(
            f"{root}: an ssh_config cannot hold this path (it has one of {' '.join(_UNWRITABLE)} or a control character)",
            hint="name another directory for the demo",
        )
    made = _create_directory(root)
    lock = _lock_mark(root)
    try:
        yield root
    finally:
        try:
            if not keep:
                _delete_demo_files(root, whole=made)
        finally:
            os.close(lock)


def _create_directory(root: Path) -> bool:
    """Create the directory, or verify that it is usable; return True if a demo made it, now or earlier."""
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
            raise UsageError(f"{root}: is not a directory that you own", hint="name another directory for the demo")
        names = os.listdir(root)
        if names and MARK not in names:
            raise UsageError(f"{root}: holds files that no demo made", hint="name an empty or a new directory")
        os.chmod(root, 0o700)
    except OSError as error:
        raise UsageError(f"{root}: cannot be the demo's directory: {error.strerror}") from error
    return bool(names)


def _lock_mark(root: Path) -> int:
    try:
        mark = os.open(root / MARK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{root}: cannot be the demo's directory: {error.strerror}") from error
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(mark)
        raise UsageError(
            f"{root}: another demo is using it", hint="stop that demo, or name another directory"
        ) from error
    return mark


def _delete_demo_files(root: Path, *, whole: bool) -> None:
    """Delete the demo's own files, and the directory itself if a demo made it and nothing else is in it."""
    try:
        for entry in tuple(os.scandir(root)):
            if HOST.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                _delete_host_directory(entry.path)
            elif entry.name == PROJECT and entry.is_dir(follow_symlinks=False):
                _delete_project(entry.path)
            elif _is_demo_file(entry):
                os.unlink(entry)
        if whole and not os.listdir(root):
            os.rmdir(root)
    except OSError as error:
        raise LauncherError(
            f"{error.filename}: cannot be deleted: {error.strerror}", hint=f"when no process uses it:  rm -r {root}"
        ) from error


def _is_demo_file(entry: os.DirEntry[str]) -> bool:
    if entry.name == SWITCH:
        return stat.S_ISFIFO(entry.stat(follow_symlinks=False).st_mode)
    return entry.name in (*FILES, IGNORE, MARK) and entry.is_file(follow_symlinks=False)


def _delete_project(directory: str) -> None:
    for name in PROJECT_FILES:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
    with suppress(OSError):  # a file that no demo made stays
        os.rmdir(directory)


def _delete_host_directory(directory: str) -> None:
    state = os.path.join(directory, STATE)
    if os.path.isdir(state) and not os.path.islink(state):
        shutil.rmtree(state)
    with suppress(OSError):  # a file that no demo made stays
        os.rmdir(directory)
