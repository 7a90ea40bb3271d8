"""Checkpoint files: the checkpoint that an error names, and the one before it. Nothing is opened, changed or deleted."""

from __future__ import annotations

import os
import re

_PATH = re.compile(r"(?<![\w.])/[^\s'\":;,]{1,1000}")
_NUMBER = re.compile(r"\d+")
MOST_ENTRIES = 10_000  # of a directory


def find_checkpoint(text: str) -> str:
    """Return the first absolute path in the text of an error, "" without one."""
    found = _PATH.search(text)
    return found[0].rstrip(".)") if found is not None else ""


def find_predecessor(path: str) -> str:
    """Return the checkpoint before this one; "" if it has none, or if this machine does not see the directory.

    Checkpoints of a run differ only in the last number of their names: ``checkpoint-40``, ``step_40.pt``. A file in the
    directory of a checkpoint has no number of its own, so the number of the directory counts. An empty entry is no
    checkpoint.
    """
    parent, name = os.path.split(path)
    numbers = list(_NUMBER.finditer(name))
    if not numbers:
        return find_predecessor(parent) if _NUMBER.search(os.path.basename(parent)) else ""
    last = numbers[-1]
    pattern = re.compile(re.escape(name[: last.start()]) + r"(\d+)" + re.escape(name[last.end() :]))
    earlier = []
    try:
        with os.scandir(parent) as entries:
            for entry, _ in zip(entries, range(MOST_ENTRIES), strict=False):
                found = pattern.fullmatch(entry.name)
                if found is not None and int(found[1]) < int(last[0]) and not _is_empty(entry):
                    earlier.append((int(found[1]), entry.path))
    except OSError:
        return ""
    return max(earlier)[1] if earlier else ""


def _is_empty(entry: os.DirEntry[str]) -> bool:
    return not os.listdir(entry.path) if entry.is_dir() else entry.stat().st_size == 0
