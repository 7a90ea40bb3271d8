"""Recorded runs: new ids, lookup by id or part of an id, and ``fanout stop``."""

from __future__ import annotations

import os
import secrets
import time

from fanout.model.errors import FanoutError, LauncherError, UsageError
from fanout.record import writer_lock
from fanout.record.run_handle import RunHandle
from fanout.record.run_reader import RunReader
from fanout.text.sanitize import to_single_line

HANDLE_FILE = "order.json"
EVENTS_FILE = "events.jsonl"


def make_run_id() -> str:
    """Return a new run id. Ids sort by time and are unique."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(6)}"


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


def find_run(name: str, root: str) -> str:
    """Return the directory of the run ``name``: its id, a unique part of it, or ``latest``. Raises UsageError."""
    try:
        ids = sorted(entry.name for entry in os.scandir(root) if os.path.isfile(os.path.join(entry.path, EVENTS_FILE)))
    except OSError:
        ids = []
    if not ids:
        raise UsageError(f"no run is recorded in {root}", hint="give the directory of runs with --log-dir DIR")
    if name in ("", "latest"):
        return os.path.join(root, ids[-1])
    matching = [each for each in ids if each == name] or [each for each in ids if name in each]
    if not matching:
        raise UsageError(f"no run {name!r} in {root}", hint=f"the latest run is {ids[-1]}")
    if len(matching) > 1:
        raise UsageError(f"{name!r} matches several runs: {', '.join(matching[-5:])}", hint="give more of the id")
    return os.path.join(root, matching[0])


def find_active_run(name: str, root: str, verb: str) -> str:
    """Return the directory of the run ``name``; without a name, of the only active run. Raises UsageError.

    Without a name, a run that has ended is never chosen. If several runs are active, the user must choose.
    """
    if name:
        return find_run(name, root)
    try:
        paths = sorted(
            entry.path for entry in os.scandir(root) if os.path.isfile(os.path.join(entry.path, EVENTS_FILE))
        )
    except OSError:
        paths = []
    held = [path for path in paths if writer_lock.read_owner(path) is not None]
    going = held or [path for path in paths if not has_ended(path)]
    if len(going) == 1:
        return going[0]
    if not going:
        hint = "fanout ps --all   # lists ended runs" if paths else "give the directory of runs with --log-dir DIR"
        raise UsageError(f"no active run in {root}", hint=hint)
    listed = "".join(f"\n        {os.path.basename(path)}  {_read_title(path)}" for path in going)
    ids = os.path.basename(going[-1])
    raise UsageError(f"{verb}: {len(going)} runs are active:{listed}", hint=f"fanout {verb} {ids}")


def has_ended(path: str) -> bool:
    """Return whether the run has an outcome, or was never launched."""
    ended = os.path.exists(os.path.join(path, "result.json"))
    return ended or not os.path.exists(os.path.join(path, HANDLE_FILE))


def _read_title(path: str) -> str:
    try:
        return to_single_line(RunReader(path).heading.title)
    except FanoutError:
        return ""


def read_run_handle(path: str) -> RunHandle:
    """Return the recorded data that is needed to return to a run or stop it. Raises UsageError."""
    try:
        with open(os.path.join(path, HANDLE_FILE), encoding="utf-8") as file:
            return RunHandle.from_json(file.read())
    except FileNotFoundError:
        raise UsageError(f"{path}: this run was never launched") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}/{HANDLE_FILE}: cannot read it: {error}") from None
