"""Lookup of recorded runs: by id, by a part of the id, by name, or by position (``@-1``); and the only active run."""

from __future__ import annotations

import os
import re
import shlex

from fanout.model.attempt_plan import split_attempt_id
from fanout.model.errors import FanoutError, UsageError
from fanout.record import writer_lock
from fanout.record.index import (
    EVENTS_FILE,
    find_last_attempt,
    get_attempt_path,
    has_ended,
    list_attempt_paths,
    split_attempt_path,
)
from fanout.record.run_reader import RunReader
from fanout.record.waiting_runs import find_waiting_run
from fanout.text.sanitize import to_single_line

NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,39}")
_POSITION = re.compile(r"@-(\d{1,6})")
_HINT = "give the directory of runs with --log-dir DIR"
LATEST = "latest"


def check_run_name(name: str) -> None:
    """Check a name for a new run: it must differ from ids and positions. Raises UsageError."""
    if not NAME.fullmatch(name) or name == LATEST:
        raise UsageError(
            f"--name {name[:60]!r}: not a name for a run",
            hint="a letter first, then at most 39 letters, digits, '.', '-' and '_': --name lr3e-4",
        )


def find_run(word: str, root: str) -> str:
    """Return the directory of a run's last attempt, or of attempt N if the word ends with ``.N``.

    The word before it is the id of the run, its name, a unique part of its id, ``@-1``, or ``latest``. ``@-1`` is the run
    before the latest one. If several runs have the name, the latest of them is meant. Raises UsageError.
    """
    run, number = split_attempt_id(word)
    if run == word or _list_named(word, _list_runs(root)):
        return find_last_attempt(_find_run_directory(word, root))
    path = _find_run_directory(run, root)
    attempt = get_attempt_path(path, number)
    if not os.path.isfile(os.path.join(attempt, EVENTS_FILE)):
        last = split_attempt_path(find_last_attempt(path))[1]
        raise UsageError(f"run {run!r} has no attempt {number}", hint=f"its last attempt is {run}.{last}")
    return attempt


def find_attempts(word: str, root: str) -> list[str]:
    """Return the directories of all attempts of a run, in order, or only attempt N if the word ends with ``.N``.

    Raises UsageError.
    """
    path = find_run(word, root)
    run, number = split_attempt_path(path)
    paths = list_attempt_paths(run)
    is_named = (
        split_attempt_id(word)[0] != word and word.endswith(f".{number}") and not _list_named(word, _list_runs(root))
    )
    return [path] if is_named else paths


def find_followed_attempts(word: str, root: str, verb: str) -> list[str]:
    """Return the directories of the attempts to follow: of the run ``word``, else of the only active run, else of the latest.

    Raises UsageError.
    """
    held = [path for path in _list_runs(root) if writer_lock.read_owner(path) is not None]
    if word or not held:
        return find_attempts(word, root)
    return list_attempt_paths(split_attempt_path(_choose_active(held, verb))[0])


def _find_run_directory(word: str, root: str) -> str:
    paths = _list_runs(root)
    if not paths and not os.path.isfile(word):
        _check_waiting(word, root)
        raise UsageError(f"no run is recorded in {root}", hint=_HINT)
    if word in ("", LATEST):
        return paths[-1]
    position = _POSITION.fullmatch(word)
    if position is not None:
        return _find_position(word, int(position[1]), paths)
    exact = [path for path in paths if os.path.basename(path) == word]
    matching = exact or _list_named(word, paths)[-1:] or [path for path in paths if word in os.path.basename(path)]
    if not matching and os.path.isfile(word):
        raise UsageError(f"{word} is a file, and RUN comes here", hint=_suggest_hosts(word))
    if not matching:
        _check_waiting(word, root)
        raise UsageError(f"no run {word!r} in {root}", hint=_suggest_run(word, paths))
    if len(matching) > 1:
        ids = ", ".join(map(os.path.basename, matching[-5:]))
        raise UsageError(f"{word!r} matches several runs: {ids}", hint="give more of the id")
    return matching[0]


def _check_waiting(word: str, root: str) -> None:
    """Raise UsageError if the word names a run that waits for hosts, because it has no record yet."""
    waiting = find_waiting_run(word, root)
    if waiting is not None:
        raise UsageError(
            f"run {waiting.run} waits for hosts, so it has no record yet", hint="fanout ps   # shows the wait"
        )


def find_active_run(word: str, root: str, verb: str) -> str:
    """Return the directory of the run ``word``; without a word, of the only active run. Raises UsageError.

    Without a word, a run that has ended is never chosen. If several runs are active, the user must choose.
    """
    paths = _list_runs(root)
    if word:
        named = [path for path in _list_named(word, paths) if writer_lock.read_owner(path) is not None]
        return _choose_active(named, verb) if named else find_run(word, root)
    held = [path for path in paths if writer_lock.read_owner(path) is not None]
    active = held or [path for path in paths if not has_ended(path)]
    if not active:
        hint = "fanout ps --all   # lists ended runs" if paths else _HINT
        raise UsageError(f"no active run in {root}", hint=hint)
    return _choose_active(active, verb)


def _choose_active(active: list[str], verb: str) -> str:
    """Return the only active run. Raises UsageError if there are several."""
    if len(active) == 1:
        return find_last_attempt(active[0])
    listed = "".join(f"\n        {os.path.basename(path)}  {_read_title(path)}" for path in active)
    latest = os.path.basename(active[-1])
    raise UsageError(f"{verb}: {len(active)} runs are active:{listed}", hint=f"fanout {verb} {latest}")


def _list_runs(root: str) -> list[str]:
    """Return the directories of recorded runs, the oldest first."""
    try:
        return sorted(entry.path for entry in os.scandir(root) if os.path.isfile(os.path.join(entry.path, EVENTS_FILE)))
    except OSError:
        return []


def _list_named(name: str, paths: list[str]) -> list[str]:
    """Return the runs that the user gave this name."""
    return [path for path in paths if _read_name(path) == name] if NAME.fullmatch(name) else []


def _find_position(word: str, before: int, paths: list[str]) -> str:
    if before < len(paths):
        return paths[-1 - before]
    counted = "1 run is" if len(paths) == 1 else f"{len(paths)} runs are"
    raise UsageError(f"{word}: only {counted} recorded", hint="fanout ps --all")


def _suggest_hosts(path: str) -> str:
    """Return a hint for a file in the place of a run: it is probably a hostfile."""
    return f"fanout ps {shlex.quote(path)}   # lists your runs on its hosts: RUN is one of them"


def _suggest_run(word: str, paths: list[str]) -> str:
    return f"fanout ps --all   # the latest run is {os.path.basename(paths[-1])}"


def _read_name(path: str) -> str:
    try:
        return RunReader(path).heading.name
    except FanoutError:
        return ""


def _read_title(path: str) -> str:
    try:
        return to_single_line(RunReader(path).heading.title)
    except FanoutError:
        return ""
