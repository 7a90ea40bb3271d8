"""Torch directories: where torchrun writes the files of its ranks if it does not use the directory that we name.

`accelerate launch` and tools that call it pass no directory to torch, and torch then makes a temporary one that it never
deletes. It contains the ranks' output only because we request files, so it is deleted with the run. A directory that the
user names is never touched.
"""

from __future__ import annotations

import os
import re
import stat

from . import processes

TEMPORARY_NAME = re.compile(r"torchelastic_[a-z0-9_]{8}$")  # tempfile.mkdtemp(prefix="torchelastic_")
ATTEMPT_NAME = re.compile(r"attempt_\d{1,9}$")
TORCH_FILES = ("stdout.log", "stderr.log", "error.json", "filtered_stdout.log", "filtered_stderr.log")
RECORD = "torch-dirs"
DELETE, KEEP = "delete", "keep"


def record_directory(directory: str, path: str, launcher: int) -> None:
    """Record in the run's ``directory`` that ``launcher`` writes its ranks' files below ``path``: <base>/<run>."""
    base = os.path.dirname(path)
    try:
        seen = os.lstat(base)
    except OSError:
        return
    mark = DELETE if _is_temporary(base, seen, launcher) else KEEP
    descriptor = os.open(os.path.join(directory, RECORD), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, os.fsencode("%s\t%d\t%d\t%s\n" % (mark, seen.st_dev, seen.st_ino, path)))
    finally:
        os.close(descriptor)


def _is_temporary(path: str, seen: os.stat_result, launcher: int) -> bool:
    """Return whether torch made the directory: private, with its kind of name, and not named by the user."""
    private = stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.getuid() and stat.S_IMODE(seen.st_mode) == 0o700
    named = os.path.basename(path) in processes.read_text("/proc/%d/cmdline" % launcher, 1 << 20)
    return private and bool(TEMPORARY_NAME.search(path)) and not named


def read_directories(directory: str) -> list:
    """Return (mark, device and inode of its parent, path) of each recorded directory."""
    found = []
    try:
        with open(os.path.join(directory, RECORD), encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                mark, device, inode, path = line.rstrip("\n").split("\t", 3)
                found.append((mark, int(device), int(inode), path))
    except (OSError, ValueError):
        pass  # there is none, or its last line is incomplete
    return found


def remove_temporary(directory: str) -> None:
    """Delete the temporary directories of the run's launchers. Delete only torch's own files; other files stay."""
    for mark, device, inode, path in read_directories(directory):
        base = os.path.dirname(path)
        try:
            seen = os.lstat(base)
            if mark == DELETE and stat.S_ISDIR(seen.st_mode) and (seen.st_dev, seen.st_ino) == (device, inode):
                _remove_files(base, seen.st_dev, 0)
        except OSError:
            continue


def _remove_files(path: str, device: int, depth: int) -> None:
    """Delete torch's files below ``path``: <run>/attempt_<n>/<local rank>/<file>."""
    with os.scandir(path) as entries:
        found = list(entries)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            if entry.stat(follow_symlinks=False).st_dev == device and _is_level(entry.name, depth):
                _remove_files(entry.path, device, depth + 1)
        elif entry.is_file(follow_symlinks=False) and depth >= 2 and entry.name in TORCH_FILES:
            os.unlink(entry.path)
    try:
        os.rmdir(path)
    except OSError:
        pass  # a file of the user is in it


def _is_level(name: str, depth: int) -> bool:
    """Return whether torch gives such a name to a directory at this depth."""
    return depth == 0 or (depth == 1 and bool(ATTEMPT_NAME.match(name))) or (depth == 2 and name.isdigit())
