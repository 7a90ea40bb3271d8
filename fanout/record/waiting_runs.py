"""Waiting runs: one file for each run that waits for free hosts, because such a run has no record yet.

    RUNS/RUN.waiting      what waits, since when and for what; the process that waits holds a lock on it
    RUNS/RUN.waiting.log  the output of a run that waits in the background

The kernel releases the lock when the process ends. If a background wait ends without a start, its file keeps the reason.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from fanout.model import schema
from fanout.model.errors import LauncherError
from fanout.model.frozen import frozen
from fanout.record import writer_lock
from fanout.record.ownership import RUN_ID

NAME = re.compile(rf"{RUN_ID.pattern}\.waiting")
KEPT_SECONDS = 7 * 86400.0  # of the file of a wait that has ended
_LONGEST = 1 << 20
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@frozen
class WaitingRun:
    """One run that waits. ``status`` is what it waits for. ``cause`` is why the wait has ended without a start.

    ``signal`` ends the wait. ``is_alive``: its process holds the lock.
    """

    run: str
    name: str
    title: str
    hosts: tuple[str, ...]
    pid: int
    user: str
    machine: str
    since: float
    signal: int = 15
    detached: bool = False
    status: str = ""
    cause: str = ""
    exit_code: int = 0
    ended: float = 0.0
    is_alive: bool = False
    path: str = ""


class WaitingRecord:
    """The file of this process's own wait. A failing disk never ends a wait."""

    def __init__(self, root: str, waiting: WaitingRun) -> None:
        """Create the file. Raises LauncherError."""
        self.path = os.path.join(root, f"{waiting.run}.waiting")
        self.log = f"{self.path}.log"
        self._waiting = waiting
        try:
            os.makedirs(root, exist_ok=True)
            self._descriptor = os.open(self.path, _FLAGS | os.O_EXCL, 0o600)
        except OSError as error:
            raise LauncherError(
                f"cannot write {self.path}: {error.strerror}", hint="choose another directory with --log-dir DIR"
            ) from None
        writer_lock.lock_file(self._descriptor)  # it is new, so only readers have it for an instant
        self.update()

    def update(self, **changes: Any) -> None:
        """Write the changed fields."""
        self._waiting = replace(self._waiting, **changes)
        writer_lock.write_entry(self._descriptor, asdict(self._waiting))

    def move_log(self, path: str) -> None:
        """Move the output so far to ``path``, a file in the record of the run that starts."""
        try:
            os.rename(self.log, path)
        except OSError:
            return

    def close(self, *, keep: bool) -> None:
        """End the wait: delete the file of a run that starts or that the user ended, or keep it with its reason."""
        if not keep:
            _delete_files(self.path)
        os.close(self._descriptor)


def list_waiting_runs(root: str) -> list[WaitingRun]:
    """Return the runs that wait, and those whose background wait has ended with a reason, the oldest first."""
    return [waiting for waiting in _iter_waiting(root) if waiting.is_alive or waiting.ended]


def find_waiting_run(word: str, root: str) -> WaitingRun | None:
    """Return the live waiting run with this id, name or unique part of its id; without a word, the only one."""
    alive = [waiting for waiting in list_waiting_runs(root) if waiting.is_alive]
    named = [waiting for waiting in alive if word in (waiting.run, waiting.name)]
    found = named[-1:] or [waiting for waiting in alive if word in waiting.run]
    return found[0] if len(found) == 1 else None


def remove_old_waits(root: str, now: float) -> None:
    """Delete the files of waits that have ended long ago, or whose process was killed."""
    for waiting in _iter_waiting(root):
        if not waiting.is_alive and now - max(waiting.ended, waiting.since) > KEPT_SECONDS:
            _delete_files(waiting.path)


def _delete_files(path: str) -> None:
    """Delete the file of a wait, and the output of its background."""
    for each in (path, f"{path}.log"):
        with contextlib.suppress(OSError):
            os.unlink(each)


def _iter_waiting(root: str) -> Iterator[WaitingRun]:
    try:
        names = sorted(name for name in os.listdir(root) if NAME.fullmatch(name))
    except OSError:
        return
    for name in names:
        waiting = _read_waiting(os.path.join(root, name))
        if waiting is not None:
            yield waiting


def _read_waiting(path: str) -> WaitingRun | None:
    """Return the content of one file of this user; None for any other file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_uid != os.getuid():
            return None
        value = schema.parse_json(os.pread(descriptor, _LONGEST, 0), schema.schema_of(WaitingRun))
        known = WaitingRun(**{**value, "hosts": tuple(value["hosts"])})
        return replace(known, is_alive=writer_lock.is_locked(descriptor), path=path)
    except (OSError, ValueError, TypeError):
        return None
    finally:
        os.close(descriptor)


def wait_for_wait_end(waiting: WaitingRun, seconds: float) -> bool:
    """Return whether the process that waits has ended within so many seconds."""
    until = time.monotonic() + seconds
    while (now := _read_waiting(waiting.path)) is not None and now.is_alive:
        if time.monotonic() > until:
            return False
        select.select([], [], [], 0.1)
    return True
