"""Record lock: a lock file that marks the process that writes a run's record.

The kernel releases the lock however that process dies. So "the launcher is alive" is measured, and never guessed from a
pid that another process may have by now.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
from dataclasses import asdict
from typing import Any

from fanout.model import schema
from fanout.model.frozen import frozen

FILE = "launcher.json"
_TRIES = 100  # a process that only reads the owner holds the lock for an instant


@frozen
class LockOwner:
    """The process that writes the record.

    ``detached``: it has no terminal. ``ending``: it is stopping the run. ``signal``: the signal that makes it stop the run.
    """

    pid: int
    user: str
    machine: str
    since: float
    detached: bool = False
    ending: bool = False
    signal: int = 15


class RecordLock:
    """The lock, held until ``release_lock`` or the end of this process."""

    def __init__(self, descriptor: int, holder: LockOwner) -> None:
        self._descriptor = descriptor
        self.write_owner(holder)

    def write_owner(self, holder: LockOwner) -> None:
        """Write the owner into the file. If the disk is full, the text is lost but the lock remains."""
        write_entry(self._descriptor, asdict(holder))

    def release_lock(self) -> None:
        os.close(self._descriptor)


def acquire_lock(directory: str, holder: LockOwner) -> RecordLock | None:
    """Lock the record for writing. Return None if another process has the lock."""
    descriptor = os.open(os.path.join(directory, FILE), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if lock_file(descriptor):
        return RecordLock(descriptor, holder)
    os.close(descriptor)
    return None


def read_owner(directory: str) -> LockOwner | None:
    """Return the process that writes this record now, None if there is none."""
    try:
        descriptor = os.open(os.path.join(directory, FILE), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _parse_owner(descriptor) if is_locked(descriptor) else None
    finally:
        os.close(descriptor)


def lock_file(descriptor: int) -> bool:
    """Lock an open file until its descriptor is closed; return False if another process keeps the lock."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            select.select([], [], [], 0.005)
    return False


def is_locked(descriptor: int) -> bool:
    """Return whether another process has locked the file; if none has, this one has a shared lock now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True


def write_entry(descriptor: int, entry: dict[str, Any]) -> None:
    """Replace the content of a locked file. A disk that is full loses the text."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(entry).encode(), 0)
    except OSError:
        return


def _parse_owner(descriptor: int) -> LockOwner:
    try:
        return LockOwner(**schema.parse_json(os.pread(descriptor, 4096, 0), schema.schema_of(LockOwner)))
    except (ValueError, TypeError):
        return LockOwner(pid=0, user="?", machine="?", since=0.0)  # it has the lock but has not written its entry yet
