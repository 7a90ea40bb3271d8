"""Recorded runs: new ids, new directories, and the data that is needed to return to a run."""

from __future__ import annotations

import os
import re
import secrets
import time
from dataclasses import replace

from fanout.model.errors import LauncherError, UsageError
from fanout.model.run_info import RunInfo
from fanout.record.run_handle import RunHandle

HANDLE_FILE = "order.json"
EVENTS_FILE = "events.jsonl"
ATTEMPTS_FILE = "attempts.jsonl"  # of a run with restarts: one line for each attempt that ended

_ATTEMPT = re.compile(r"attempt-(\d{1,6})")


def make_run_id() -> str:
    """Return a new run id. Ids sort by time, also within a second, and are unique."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    fraction = (nanoseconds << 16) // 10**9  # four hexadecimal digits: steps of 15 microseconds
    return f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(seconds))}-{fraction:04x}{secrets.token_hex(4)}"


def create_run_directory(path: str) -> bool:
    """Create the directory of a new run; return False if another run has it. Raises LauncherError."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o700)
        return True
    except FileExistsError:
        if os.path.isdir(path):
            return False
        raise LauncherError(f"{path}: not a directory", hint="choose another directory with --log-dir DIR") from None
    except OSError as error:
        raise LauncherError(
            f"cannot write the logs of this run to {path}: {error.strerror}",
            hint="choose another directory with --log-dir DIR",
        ) from None


def get_attempt_path(run: str, number: int) -> str:
    """Return the directory of an attempt's record: that of the run for attempt 0, else ``attempt-N`` in it."""
    return os.path.join(run, f"attempt-{number}") if number else run


def split_attempt_path(path: str) -> tuple[str, int]:
    """Return (directory of the run, number of the attempt) for the directory of an attempt."""
    match = _ATTEMPT.fullmatch(os.path.basename(path))
    return (os.path.dirname(path), int(match[1])) if match is not None else (path, 0)


def list_attempt_paths(run: str) -> list[str]:
    """Return the directories of all attempts that have a record, in order."""
    paths = [run]
    while os.path.isfile(os.path.join(following := get_attempt_path(run, len(paths)), EVENTS_FILE)):
        paths.append(following)
    return paths


def find_last_attempt(run: str) -> str:
    """Return the directory of the last attempt that has a record."""
    return list_attempt_paths(run)[-1]


def has_ended(path: str) -> bool:
    """Return whether the last attempt of the run has an outcome, or was never launched."""
    path = find_last_attempt(path)
    return os.path.exists(os.path.join(path, "result.json")) or not is_launched(path)


def is_launched(path: str) -> bool:
    """Return whether this attempt was launched: all checks had passed, and its launcher could start it."""
    return os.path.exists(os.path.join(path, HANDLE_FILE))


def read_run_handle(path: str) -> RunHandle:
    """Return the recorded data that is needed to return to a run or stop it. Raises UsageError."""
    try:
        with open(os.path.join(path, HANDLE_FILE), encoding="utf-8") as file:
            return RunHandle.from_json(file.read())
    except FileNotFoundError:
        raise UsageError(f"{path}: this run was never launched") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}/{HANDLE_FILE}: cannot read it: {error}") from None


def read_run_info(path: str, heading: RunInfo) -> RunInfo:
    """Return the heading with the time limits of the launched run; unchanged for a run that was not launched."""
    try:
        settings = read_run_handle(path).settings
    except UsageError:
        return heading
    return replace(heading, lease=settings.lease, connect_timeout=settings.connect_timeout)
