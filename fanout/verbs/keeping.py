"""Which recorded runs are kept: at most so old, so many and so large; what may still run is never touched.

A run is over when its record has an outcome, whoever wrote it, or when it was never launched, and when nobody holds the
record. Everything else (detached, or its launcher was killed and not every host could be looked over) may still run
somewhere and stays.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fanout import holder
from fanout.errors import UsageError
from fanout.verbs.runs import ORDER
from fanout.views.units import size

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)")
_AGES = {"h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZES = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """The bounds; None where there is none."""

    seconds: float | None = None
    count: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run's directory: when it was last written to, how large it is, and whether it is over."""

    path: str
    at: float
    bytes: int
    over: bool


def parse(text: str) -> Keep:
    """``30d,100,5GB``: an age (h, d, w), a number of runs, a size (kB to TB), in any order; ``all`` bounds nothing."""
    if text.strip().lower() == "all":
        return Keep()
    bounds: dict[str, float | int] = {}
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        unit = match[2].lower() if match else "?"
        if match and unit in _AGES:
            name, value = "seconds", float(match[1]) * _AGES[unit]
        elif match and unit in _SIZES:
            name, value = "bytes", int(float(match[1]) * _SIZES[unit])
        elif match and not unit and "." not in match[1]:
            name, value = "count", int(match[1])
        else:
            raise UsageError(f"--keep {text}: what is {part.strip()!r}?", hint="--keep 30d,100,5GB or --keep all")
        if name in bounds:
            raise UsageError(f"--keep {text}: says twice how {_SAYS[name]}", hint="--keep 30d,100,5GB")
        bounds[name] = value
    return Keep(**bounds)  # type: ignore[arg-type]


_SAYS = {"seconds": "old runs may be", "bytes": "large they may be", "count": "many they may be"}


def superfluous(runs: Iterable[Run], keep: Keep, now: float) -> list[Run]:
    """Those to be removed, oldest first. The run that ended last stays, however large it is."""
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


def runs_in(root: str) -> list[Run]:
    """The runs that are recorded in ``root``; what is no run of ours is not looked at."""
    try:
        paths = [entry.path for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    found = []
    for path in paths:
        try:
            record = os.stat(os.path.join(path, _RECORD))
            found.append(Run(path=path, at=record.st_mtime, bytes=_size(path), over=is_over(path)))
        except OSError:
            continue
    return found


def is_over(path: str) -> bool:
    """Is it certain that nothing of this run goes on, here or on its hosts?"""
    if holder.of(path) is not None:
        return False
    ended = os.path.exists(os.path.join(path, "result.json"))
    return ended or not os.path.exists(os.path.join(path, ORDER))


def prune(root: str, keep: Keep, now: float) -> str:
    """Remove what is beyond the bounds: a sentence about it, "" where nothing was."""
    if keep == Keep():
        return ""
    removed = [run for run in superfluous(runs_in(root), keep, now) if _removed(run.path)]
    if not removed:
        return ""
    runs = f"{len(removed)} old run{'s' if len(removed) > 1 else ''}"
    return f"removed the record of {runs} ({size(_sum(removed))}): --keep says how much is kept"


_RECORD = "events.jsonl"


def _removed(path: str) -> bool:
    """Asked once more at the last moment, because another launcher may have taken the run up meanwhile."""
    if not is_over(path):
        return False
    shutil.rmtree(path, ignore_errors=True)
    return not os.path.exists(path)


def _sum(runs: Sequence[Run]) -> int:
    return sum(run.bytes for run in runs)


def _size(path: str) -> int:
    """Bytes on disk: a log with holes is not as large as it says."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                continue
    return total
