"""Ownership of run records: prove that a directory is a record of this user, and delete fanout's files in it.

The proof needs a name in the form of a run id, a real directory of this user on the file system of its parent, and an
``events.jsonl`` whose first record is the run record with that id. Files are deleted by the names that fanout gives
them, never by a walk over the tree. A file that fanout did not write stays, and its directory stays too.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from fanout.model import schema
from fanout.model.attempt_plan import make_attempt_id
from fanout.model.frozen import frozen
from fanout.model.schema import Integer, ListOf, Text
from fanout.record import writer_lock
from fanout.record.paths import LogFileNames, encode_name
from fanout.record.save_request import REQUEST_FILE
from fanout.record.stop_request import STOP_FILE

RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4,32}")
EVENTS = "events.jsonl"
LOGS = "logs"
#: The files of a record other than logs, in the order of deletion, so that an interrupted deletion can be repeated.
FILES = ("plan.json", "retest.json", "verdict.json", "report.txt", "launcher.log", "attempts.jsonl", "command.json", "code.json",
         REQUEST_FILE, STOP_FILE, "order.json", "result.json", EVENTS, writer_lock.FILE)  # fmt: skip
ATTEMPT = re.compile(r"attempt-([1-9]\d{0,5})")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST = 1 << 24  # bytes of one record; a run record of 10,000 hosts has 1 MB
_RUN = {"type": Text(among=("run",)), "run": Text(200), "hosts": ListOf(Text(4096))}
_STREAM = {"type": Text(among=("stream_opened",)), "host": Text(4096), "stream": Integer(0, 65535), "name": Text(200)}


@frozen
class OwnRecord:
    """Record that provably is fanout's: its path, the time of its last event, and the bytes of its files on disk."""

    path: str
    at: float
    bytes: int


def find_own_record(root: str, name: str) -> OwnRecord | None:
    """Return the record ``name`` of ``root`` if the proof holds, else None."""
    with suppress(OSError, ValueError), _open_record(root, name) as directory:
        first = _read_run_record(directory, name)
        if first is not None:
            at = os.stat(EVENTS, dir_fd=directory, follow_symlinks=False).st_mtime
            path = os.path.join(root, name)
            return OwnRecord(path=path, at=at, bytes=_measure_files(directory) + _measure_attempts(path, name))
    return None


def _measure_attempts(path: str, run_id: str) -> int:
    """Return the bytes on disk of the records of later attempts."""
    total = 0
    for folder, attempt_id in _list_attempts(path, run_id):
        with suppress(OSError, ValueError), _open_record(path, folder) as directory:
            if _read_run_record(directory, attempt_id) is not None:
                total += _measure_files(directory)
    return total


def _measure_files(directory: int) -> int:
    """Return the bytes on disk of fanout's files; an estimate, because the exact names need a read of all events."""
    logs = {file for file in _list_names(directory, LOGS) if file.endswith(".log")}
    return sum(blocks * 512 for _, _, blocks in _list_own_files(directory, logs))


def _list_attempts(path: str, run_id: str) -> list[tuple[str, str]]:
    """Return (folder, id) of each later attempt in the directory of a run."""
    try:
        found = [match for name in sorted(os.listdir(path)) if (match := ATTEMPT.fullmatch(name))]
    except OSError:
        return []
    return [(match[0], make_attempt_id(run_id, int(match[1]))) for match in found]


def delete_record(root: str, name: str) -> list[str] | None:
    """Delete fanout's files of a proven record; return the names that stay, or None if the proof fails.

    The records of later attempts in it are proven and deleted one by one, before the record itself.
    """
    if find_own_record(root, name) is None:
        return None
    path = os.path.join(root, name)
    for folder, attempt_id in _list_attempts(path, name):
        _delete_files(path, folder, attempt_id)
    return _delete_files(root, name, name)


def _delete_files(root: str, name: str, run_id: str) -> list[str] | None:
    try:
        with _open_record(root, name) as directory:
            first = _read_run_record(directory, run_id)
            if first is None:
                return None
            logs = _list_log_names(directory, tuple(first["hosts"]))
            for folder, file, _ in list(_list_own_files(directory, logs)):
                with suppress(OSError), _open_folder(directory, folder) as place:
                    os.unlink(file, dir_fd=place)
            with suppress(OSError):
                os.rmdir(LOGS, dir_fd=directory)
            left = _list_left(directory)
            if not left:
                os.rmdir(os.path.join(root, name))
            return left
    except (OSError, ValueError):
        return None


@contextmanager
def _open_record(root: str, name: str) -> Iterator[int]:
    """Open the directory if it may be one of ours; raise OSError otherwise."""
    if not RUN_ID.fullmatch(name) and not ATTEMPT.fullmatch(name):
        raise OSError(f"{name} is not a run id")
    directory = os.open(os.path.join(root, name), _DIRECTORY)
    try:
        seen = os.fstat(directory)
        if seen.st_uid != os.geteuid() or seen.st_dev != os.stat(root).st_dev:
            raise OSError(f"{name} belongs to another user, or is a mount point")
        yield directory
    finally:
        os.close(directory)


@contextmanager
def _open_folder(directory: int, folder: str) -> Iterator[int]:
    """Open a folder of the record, or the record itself if ``folder`` is empty."""
    if not folder:
        yield directory
        return
    place = os.open(folder, _DIRECTORY, dir_fd=directory)
    try:
        if os.fstat(place).st_dev != os.fstat(directory).st_dev:
            raise OSError(f"{folder} is a mount point")
        yield place
    finally:
        os.close(place)


def _read_run_record(directory: int, name: str) -> Mapping[str, Any] | None:
    """Return the first record of the events file if it is the run record of this id."""
    if not _is_own_file(EVENTS, directory):
        return None
    with _open_events(directory) as file:
        try:
            first: Mapping[str, Any] = schema.parse_json(file.readline(_LONGEST), _RUN)
        except schema.InvalidValue:
            return None
    return first if first["run"] == name else None


def _list_left(directory: int) -> list[str]:
    """Return the names that are still in the record's directory."""
    found = sorted(os.listdir(directory))
    if LOGS in found:
        found.remove(LOGS)
        found += [f"{LOGS}/{name}" for name in sorted(_list_names(directory, LOGS))] or [LOGS]
    return found


def _list_own_files(directory: int, logs: set[str]) -> Iterator[tuple[str, str, int]]:
    """Yield (folder, file, blocks) of each file that fanout wrote: existing ``logs`` first, the lock file last."""
    if logs:
        with _open_folder(directory, LOGS) as place:
            for file in sorted(logs.intersection(os.listdir(place))):
                if _is_own_file(file, place):
                    yield LOGS, file, os.stat(file, dir_fd=place, follow_symlinks=False).st_blocks
    for file in FILES:
        if _is_own_file(file, directory):
            yield "", file, os.stat(file, dir_fd=directory, follow_symlinks=False).st_blocks


def _list_log_names(directory: int, hosts: tuple[str, ...]) -> set[str]:
    """Return the names of the log files that the record lists."""
    names = LogFileNames(hosts)
    streams = {(host, 0) for host in hosts}
    with _open_events(directory) as file:
        while line := file.readline(_LONGEST):
            if b'"stream_opened"' in line:
                with suppress(schema.InvalidValue):
                    event = schema.parse_json(line, _STREAM)
                    names.set_name(event["host"], event["stream"], event["name"])
                    streams.add((event["host"], event["stream"]))
    known = {names.get_path(host, stream).removeprefix(f"{LOGS}/") for host, stream in streams}
    unnamed = "|".join(re.escape(encode_name(host)) for host in hosts)  # a full disk lost the event with its name
    pattern = re.compile(rf"(?:{unnamed})\.stream-\d+(~\d+)?\.log")
    return known | {name for name in _list_names(directory, LOGS) if pattern.fullmatch(name)}


def _open_events(directory: int) -> Any:
    descriptor = os.open(EVENTS, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    return open(descriptor, "rb")


def _is_own_file(name: str, directory: int) -> bool:
    """Return whether this is a regular file of this user, not a link and not a mount point."""
    try:
        seen = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    there = os.fstat(directory).st_dev
    return stat.S_ISREG(seen.st_mode) and seen.st_uid == os.geteuid() and seen.st_dev == there


def _list_names(directory: int, folder: str) -> list[str]:
    """Return the names in a folder of the record, or [] if it cannot be opened."""
    try:
        with _open_folder(directory, folder) as place:
            return os.listdir(place)
    except OSError:
        return []
