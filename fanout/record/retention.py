"""Retention of recorded runs: bounds on their age, number and size.

fanout counts and deletes only runs that are provably its own (see ``ownership``). A run is over if no process holds its
record, and the record has an outcome or the run was never launched. Any other run may still be active and stays. In a
directory that the user named, nothing is deleted unless the user also gives the bounds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from fanout.model.errors import UsageError
from fanout.model.frozen import frozen
from fanout.model.settings import Settings
from fanout.model.shared_options import DEFAULT_RETENTION
from fanout.record import ownership, writer_lock
from fanout.record.index import has_ended
from fanout.text.parse_units import parse_duration, parse_size
from fanout.text.units import count_noun, format_size

_COUNT = re.compile(r"\d{1,15}", re.ASCII)


@frozen
class RetentionBounds:
    """Bounds on recorded runs; None means no bound."""

    seconds: float | None = None
    count: int | None = None
    bytes: int | None = None


@frozen
class RecordedRun:
    """Directory of one run: the time of its last event, its size on disk, and whether the run is over."""

    path: str
    at: float
    bytes: int
    over: bool


def choose_bounds(settings: Settings) -> RetentionBounds:
    """Return the bounds for the directory of runs in the settings. Raises UsageError."""
    if settings.keep:
        return parse_bounds(settings.keep)
    return RetentionBounds() if settings.log_dir else parse_bounds(DEFAULT_RETENTION)


def parse_bounds(text: str) -> RetentionBounds:
    """Parse ``30d,100,5GB``: an age (``5m`` to ``2w``), a number of runs, a size (``5M`` to ``1TB``), in any order.

    ``all`` means no bounds. Raises UsageError.
    """
    if text.strip().lower() == "all":
        return RetentionBounds()
    bounds: dict[str, float | int] = {}
    for part in map(str.strip, text.split(",")):
        name, value = _parse_bound(part)
        if value is None:
            raise UsageError(
                f"--keep {text[:40]}: {part[:40]!r} is not an age, a number or a size",
                hint="--keep 30d,100,5GB or --keep all",
            )
        if name in bounds:
            raise UsageError(f"--keep {text}: gives {_BOUND_NAMES[name]} twice", hint="--keep 30d,100,5GB")
        bounds[name] = value
    return RetentionBounds(**bounds)  # type: ignore[arg-type]


def _parse_bound(part: str) -> tuple[str, float | int | None]:
    """Return (field, value) of one bound; the value is None if it is invalid. ``5m`` is an age, ``5M`` a size."""
    if _COUNT.fullmatch(part):
        return "count", int(part)
    if part[-1:].isdigit():
        return "", None
    seconds = parse_duration(part)
    return ("bytes", parse_size(part)) if seconds is None else ("seconds", seconds)


_BOUND_NAMES = {"seconds": "the age", "bytes": "the size", "count": "the number of runs"}


def select_excess_runs(runs: Iterable[RecordedRun], keep: RetentionBounds, now: float) -> list[RecordedRun]:
    """Return the runs beyond the bounds, oldest first. The run that ended last always stays."""
    newest_first = sorted(runs, key=lambda run: run.at, reverse=True)
    latest = next((run for run in newest_first if run.over), None)
    count, total, out = 0, 0, []
    for run in newest_first:
        count, total = count + 1, total + run.bytes
        too_old = keep.seconds is not None and now - run.at > keep.seconds
        too_many = keep.count is not None and count > keep.count
        too_large = keep.bytes is not None and total > keep.bytes
        if run.over and run is not latest and (too_old or too_many or too_large):
            out.append(run)
            count, total = count - 1, total - run.bytes
    return out[::-1]


def find_runs(root: str) -> list[RecordedRun]:
    """Return the recorded runs in ``root`` that are provably fanout's and this user's."""
    found = []
    for name in find_run_ids(root):
        record = ownership.find_own_record(root, name)
        if record is not None:
            found.append(RecordedRun(path=record.path, at=record.at, bytes=record.bytes, over=is_over(record.path)))
    return found


def find_run_ids(root: str) -> list[str]:
    """Return the names below ``root`` that have the form of a run id."""
    try:
        return [name for name in os.listdir(root) if ownership.RUN_ID.fullmatch(name)]
    except OSError:
        return []


def is_over(path: str) -> bool:
    """Return whether the run has ended and no process holds its record."""
    return writer_lock.read_owner(path) is None and has_ended(path)


def prune_runs(root: str, keep: RetentionBounds, now: float) -> list[str]:
    """Delete the runs beyond the bounds; return messages for the user."""
    if keep == RetentionBounds():
        return []
    notes: list[str] = []
    removed = []
    for run in select_excess_runs(find_runs(root), keep, now):
        foreign = _delete_run(run.path)
        if foreign is None:
            continue
        removed.append(run)
        if foreign:
            more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
            notes.append(
                f"kept {run.path}: fanout deletes only files that it wrote, not {', '.join(foreign[:3])}{more}"
            )
    if removed:
        runs = count_noun(len(removed), "old run")
        total = format_size(sum(run.bytes for run in removed))
        notes.insert(0, f"removed the record of {runs} ({total}): --keep sets the limits")
    return notes


def _delete_run(path: str) -> list[str] | None:
    """Delete one run under its lock, so that no launcher can resume it; return None if it has to stay."""
    try:
        hold = writer_lock.acquire_lock(
            path, writer_lock.LockOwner(pid=os.getpid(), user="", machine="", since=0.0, ending=True)
        )
    except OSError:
        return None
    if hold is None:
        return None
    try:
        return ownership.delete_record(*os.path.split(path)) if has_ended(path) else None
    finally:
        hold.release_lock()
