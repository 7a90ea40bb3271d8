"""Attempts of a recorded run: their directories, and the lines of ``attempts.jsonl``."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fanout.model.attempt_record import AttemptRecord, parse_attempt_record
from fanout.model.schema import InvalidValue
from fanout.record import writer_lock
from fanout.record.index import (
    ATTEMPTS_FILE,
    EVENTS_FILE,
    get_attempt_path,
    is_launched,
    list_attempt_paths,
    split_attempt_path,
)

_LONGEST = 16 << 20  # bytes of the file that are read


def read_attempt_records(run: str) -> list[AttemptRecord]:
    """Return the attempts of the run that have ended, in order. Damaged lines are left out.

    A later line about the same attempt replaces the earlier one: the user stopped the run before the announced restart.
    """
    try:
        with open(os.path.join(run, ATTEMPTS_FILE), "rb") as file:
            lines = file.read(_LONGEST).splitlines()
    except OSError:
        return []
    records: dict[int, AttemptRecord] = {}
    for line in lines:
        try:
            record = parse_attempt_record(line)
        except InvalidValue:
            continue
        records[record.attempt] = record
    return [records[number] for number in sorted(records)]


def find_next_attempt(path: str) -> str | None:
    """Return the directory of the attempt after this one, None if it has no record."""
    run, number = split_attempt_path(path)
    following = get_attempt_path(run, number + 1)
    return following if os.path.isfile(os.path.join(following, EVENTS_FILE)) else None


def read_pending_restart(path: str) -> AttemptRecord | None:
    """Return the record of this attempt if another one follows it: that is decided, and the launcher lives."""
    run, number = split_attempt_path(path)
    record = next((each for each in read_attempt_records(run) if each.attempt == number), None)
    if record is None or record.next.action != "restart" or writer_lock.read_owner(path) is None:
        return None
    return record


def find_reported_attempt(paths: Sequence[str]) -> str:
    """Return the attempt whose report is that of the run: the last one that was launched, or else the first one."""
    launched = [path for path in paths if is_launched(path)]
    return launched[-1] if launched else paths[0]


def find_launched_attempt(path: str) -> str:
    """Return this attempt, or the last one before it that was launched if its launcher only checks the hosts of this one."""
    run, number = split_attempt_path(path)
    return find_reported_attempt(list_attempt_paths(run)[: number + 1]) if number else path
