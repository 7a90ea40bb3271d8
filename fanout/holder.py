"""Who keeps a run's record now: a file in its directory that this process holds locked for as long as it lives.

The kernel lets go of the lock however its holder dies, so that "its launcher is alive" is a measurement, never a guess
from a pid that may be somebody else's by now.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
from dataclasses import asdict, dataclass

from fanout import schema

FILE = "launcher.json"
_TRIES = 100  # whoever only looks holds the lock for an instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The process that writes the record.

    ``detached``: its output is not shown anywhere; ``ending``: it ends the run; ``signal``: what makes it end the run.
    """

    pid: int
    user: str
    machine: str
    since: float
    detached: bool = False
    ending: bool = False
    signal: int = 15


class Hold:
    """Ours until ``let_go``, or until this process ends."""

    def __init__(self, descriptor: int, holder: Holder) -> None:
        self._descriptor = descriptor
        self.become(holder)

    def become(self, holder: Holder) -> None:
        """Say anew who we are. A disk that is full costs this line, not the lock."""
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(asdict(holder)).encode(), 0)
        except OSError:
            return

    def let_go(self) -> None:
        os.close(self._descriptor)


def take(directory: str, holder: Holder) -> Hold | None:
    """Become the one who writes this record; None if somebody is."""
    descriptor = os.open(os.path.join(directory, FILE), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Hold(descriptor, holder)
        except OSError:
            select.select([], [], [], 0.005)
    os.close(descriptor)
    return None


def of(directory: str) -> Holder | None:
    """Who writes this record now; None if nobody does."""
    try:
        descriptor = os.open(os.path.join(directory, FILE), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError:
        return _read(descriptor)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> Holder:
    try:
        return Holder(**schema.parsed(os.pread(descriptor, 4096, 0), schema.of(Holder)))
    except (ValueError, TypeError):
        return Holder(pid=0, user="?", machine="?", since=0.0)  # it has only just come
