"""Overlays: directories of a sandbox that take writes in memory, while the host's files below them stay as they are.

The kernel refuses an overlay of a directory with mounts below it in a user namespace. Such a directory is rebuilt in a
tmpfs: each directory in it gets an overlay of its own, and each file is copied or mounted read-only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from ..spawn import LIBC

NO_SUID, NO_DEV = 2, 4
_BIND, _RECURSIVE = 4096, 16384
_LARGEST_COPY = 1 << 20  # bytes of a file that is copied: a larger one is mounted read-only
_MOST_ENTRIES = 2000  # in all rebuilt directories; beyond it, a directory is mounted read-only


class OverlaySet:
    """Overlays of one sandbox; ``room`` is an empty directory in memory for what is written.

    ``points`` are the mount points of the host.
    """

    def __init__(self, room: str, points: list[str]) -> None:
        self._room = room
        self._points = points
        self._count = 0
        self._entries = 0
        self.error: OSError | None = None  # of the first directory that stayed read-only

    def cover_directory(self, lower: int, path: str) -> None:
        """Mount the directory of the descriptor ``lower`` at ``path``: writable if possible, else read-only."""
        try:
            os.makedirs(path, exist_ok=True)
            try:
                self._mount_overlay(lower, path)
            except OSError:
                if not any(point.startswith(path + "/") for point in self._points):
                    raise
                self._rebuild_directory(lower, path)
        except OSError as error:
            self.error = self.error or error
            bind_descriptor(lower, path)

    def _mount_overlay(self, lower: int, path: str) -> None:
        self._count += 1
        upper, work = ("%s/%d-%s" % (self._room, self._count, name) for name in ("new", "work"))
        os.makedirs(upper)
        os.makedirs(work)
        os.chmod(upper, os.fstat(lower).st_mode & 0o7777)
        data = "lowerdir=/proc/self/fd/%d,upperdir=%s,workdir=%s,userxattr" % (lower, upper, work)
        mount_at("box", path, "overlay", 0, data)

    def _rebuild_directory(self, lower: int, path: str) -> None:
        """Mount a tmpfs with the same entries. Raises OSError, for example if there are too many."""
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=lower)
        try:
            names = os.listdir(readable)
        finally:
            os.close(readable)
        self._entries += len(names)
        if self._entries > _MOST_ENTRIES:
            raise OSError(errno.E2BIG, "mounts below it, and more than %d entries" % _MOST_ENTRIES, path)
        mode = os.fstat(lower).st_mode & 0o7777
        mount_at("tmpfs", path, "tmpfs", NO_SUID | NO_DEV, "mode=%o,size=256m" % mode)
        for name in names:
            try:
                self._rebuild_entry(lower, path, name)
            except OSError:
                continue  # it was removed meanwhile, or this user may not open it

    def _rebuild_entry(self, lower: int, path: str, name: str) -> None:
        """Repeat one entry of a directory in its tmpfs."""
        target = path + "/" + name
        entry = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=lower)
        try:
            seen = os.fstat(entry)
            if stat.S_ISLNK(seen.st_mode):
                os.symlink(os.readlink(name, dir_fd=lower), target)
            elif stat.S_ISDIR(seen.st_mode):
                self.cover_directory(entry, target)
            elif not stat.S_ISREG(seen.st_mode) or seen.st_size > _LARGEST_COPY or not _copy_file(entry, seen, target):
                os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o600))
                mount_over_file("/proc/self/fd/%d" % entry, target)
        finally:
            os.close(entry)


def mount_at(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Call mount(2). Raises OSError with the target."""
    texts = [os.fsencode(text) if text else None for text in (source, target, kind)]
    if LIBC.mount(*texts, ctypes.c_ulong(flags), os.fsencode(data) or None) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def mount_over_file(source: str, target: str) -> None:
    """Mount one file over another. Raises OSError."""
    mount_at(source, target, flags=_BIND)


def bind_descriptor(descriptor: int, path: str) -> None:
    """Mount the former content of ``path`` read-only; if that fails, it is absent in the sandbox."""
    try:
        os.makedirs(path, exist_ok=True)
        mount_at("/proc/self/fd/%d" % descriptor, path, flags=_BIND | _RECURSIVE)
    except OSError:
        pass


def _copy_file(entry: int, seen: os.stat_result, target: str) -> bool:
    """Copy a file with its mode and time; return whether this user may read it."""
    try:
        source = os.open("/proc/self/fd/%d" % entry, os.O_RDONLY)
    except OSError:
        return False
    try:
        copy = os.open(target, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            while os.sendfile(copy, source, None, _LARGEST_COPY):
                pass
            os.fchmod(copy, seen.st_mode & 0o7777)
            os.utime(copy, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        finally:
            os.close(copy)
    finally:
        os.close(source)
    return True
