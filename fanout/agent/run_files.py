"""Run record on the host: the log files and the status, written so that a full disk cannot lose how the run ended.

``status`` has its disk blocks before anything starts. So writing the end needs no free block; longer content is cut. A
log that cannot be written is kept elsewhere (see ``spool``).
"""

from __future__ import annotations

import errno
import json
import os
import stat
import time

from . import frames

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Optional

STATUS_BYTES = 16384
LEAST_BYTES = 4096  # what keepers of every version allocate
LONGEST_TEXTS = (1000, 300, 100, 30)  # the lengths to which long texts are cut, one after the other
_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS)


class StatusFile:
    """The facts of a run, as one small JSON object that survives the keeper."""

    def __init__(self, directory: str) -> None:
        self._file = os.open(
            os.path.join(directory, "status"), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        os.posix_fallocate(self._file, 0, STATUS_BYTES)
        self.facts: dict = {"v": frames.PROTOCOL_VERSION}
        self._written = 0

    def update(self, **facts: object) -> None:
        """Add facts and write them to the file."""
        self.facts.update(facts)
        text = _fit_to_size(self.facts)
        os.pwrite(self._file, text.ljust(self._written), 0)  # short: one page is read whole or not
        self._written = len(text)


def _fit_to_size(facts: dict) -> bytes:
    """Return the facts as JSON that fits: texts are cut first, then the list of processes left behind."""
    text = json.dumps(facts).encode()
    for longest in LONGEST_TEXTS:
        if len(text) <= STATUS_BYTES:
            return text
        text = json.dumps(_truncate(facts, longest)).encode()
    if len(text) > STATUS_BYTES:
        cleaned_up = dict(facts.get("cleaned_up", {}))
        kept = dict(cleaned_up, left=cleaned_up.get("left", [])[:16])
        text = json.dumps(_truncate(dict(facts, cleaned_up=kept) if cleaned_up else facts, LONGEST_TEXTS[-1])).encode()
    return text


def _truncate(value: object, longest: int) -> object:
    """Return the value with every text cut to ``longest`` characters; the beginning of a text names the cause."""
    if isinstance(value, str) and len(value) > longest:
        return value[: longest - 3] + "..."
    if isinstance(value, dict):
        return {key: _truncate(item, longest) for key, item in value.items()}
    if isinstance(value, list):
        return [_truncate(item, longest) for item in value]
    return value


def summarize_traceback(trace: str) -> str:
    """Return a traceback in one line: the error, then where it was raised, innermost place first."""
    lines = [line.strip() for line in trace.strip().splitlines()]
    places = [line for line in lines if line.startswith("File ")]
    return "; ".join([lines[-1][:500], *places[:-4:-1]]) if lines else ""


def explain_unknown_end(facts: dict) -> str:
    """Return why the end of train.sh is unknown, from a record without an end."""
    if facts.get("fault"):
        return "the keeper on the host failed, which is a bug in fanout: %s" % facts["fault"]
    return "the keeper on the host died without a record"


def read_status(directory: str) -> dict:
    """Return the facts that a keeper wrote; {} if it wrote none."""
    try:
        with open(os.path.join(directory, "status"), "rb") as file:
            facts = json.loads(file.read(STATUS_BYTES).rstrip(b"\0").decode())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def has_other_version(facts: dict) -> bool:
    """Return whether a keeper of another version of fanout wrote the facts. A keeper that died early wrote none."""
    return bool(facts) and facts.get("v") != frames.PROTOCOL_VERSION


def read_age(directory: str) -> float:
    """Return the seconds since the run's record was last written."""
    try:
        return max(0.0, time.time() - os.stat(os.path.join(directory, "status")).st_mtime)
    except OSError:
        return 0.0


def stream_path(directory: str, stream: int) -> str:
    return os.path.join(directory, "stream-%d" % stream)


class StreamFile:
    """One append-only file of a stream's bytes."""

    def __init__(self, directory: str, stream: int) -> None:
        self.directory = directory
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(stream_path(directory, stream), flags, 0o600)
        self.size = 0
        self.trouble = ""  # why the disk did not accept the last bytes

    def append(self, data: bytes) -> int:
        """Write the data; return how many bytes the disk accepted."""
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

    def skip_to(self, upto: int, block: int) -> bool:
        """Continue at ``upto``, a multiple of ``block``; the blocks between are a hole. Return False if the disk
        refuses."""
        try:
            os.ftruncate(self._file, self.size // block * block)
            os.ftruncate(self._file, upto)
        except OSError:
            return False
        self.size = upto
        return True


def stat_own_file(path: str) -> Optional[os.stat_result]:
    """Return the lstat result of a regular file of this uid, None for anything else."""
    try:
        seen = os.lstat(path)
    except OSError:
        return None
    return seen if stat.S_ISREG(seen.st_mode) and seen.st_uid == os.getuid() else None


def open_socket_path(directory: str) -> str:
    """Return a short path of the keeper's socket: its length is limited to 107 bytes, a directory's is not."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return "/proc/self/fd/%d/socket" % descriptor  # kept open: the path is valid only while the descriptor is open
