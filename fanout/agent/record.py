"""The record of a run on its host: the log files and the status, made so that a full disk cannot eat the ending.

``status`` is 4 KiB, allocated before anything starts: writing how it ended needs no free block. A log that cannot be
written is somebody else's to keep (see ``spool``).
"""

from __future__ import annotations

import errno
import json
import os
import time

STATUS_BYTES = 4096
_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS)


class Status:
    """What is known of the run, as one small JSON object that survives the keeper."""

    def __init__(self, directory: str) -> None:
        self._file = os.open(
            os.path.join(directory, "status"), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        os.posix_fallocate(self._file, 0, STATUS_BYTES)
        self.facts: dict = {}

    def note(self, **facts: object) -> None:
        """Add facts and write them down."""
        self.facts.update(facts)
        text = json.dumps(self.facts).encode()
        if len(text) > STATUS_BYTES:
            text = json.dumps(dict(self.facts, gone=dict(self.facts.get("gone", {}), left=[]))).encode()
        os.pwrite(self._file, text.ljust(STATUS_BYTES), 0)


def read_status(directory: str) -> dict:
    """The facts that a keeper wrote, {} if it never came so far."""
    try:
        with open(os.path.join(directory, "status"), "rb") as file:
            facts = json.loads(file.read(STATUS_BYTES).decode())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def age(directory: str) -> float:
    """Seconds since anything was written down of the run."""
    try:
        return max(0.0, time.time() - os.stat(os.path.join(directory, "status")).st_mtime)
    except OSError:
        return 0.0


def log_path(directory: str, stream: int) -> str:
    return os.path.join(directory, "stream-%d" % stream)


class Log:
    """One append-only file of a stream's bytes."""

    def __init__(self, directory: str, stream: int) -> None:
        self.directory = directory
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(log_path(directory, stream), flags, 0o600)
        self.size = 0
        self.trouble = ""  # why the disk did not take what it was given last

    def append(self, data: bytes) -> int:
        """Write it; how many bytes the disk took."""
        view = memoryview(data)
        self.trouble = ""
        while view:
            try:
                written = os.write(self._file, view)
            except OSError as error:
                if error.errno not in _REFUSES:
                    raise
                self.trouble = error.strerror or str(error)
                break
            self.size += written
            view = view[written:]
        return len(data) - len(view)

    def skip(self, upto: int, block: int) -> bool:
        """Go on at ``upto``, a multiple of ``block``; all blocks between are holes. The disk may not even do that."""
        try:
            os.ftruncate(self._file, self.size // block * block)
            os.ftruncate(self._file, upto)
        except OSError:
            return False
        self.size = upto
        return True
