"""Size limits of a sync: a project is code, so data and checkpoints that were selected by mistake are refused. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from fanout.model.errors import UsageError
from fanout.sync.manifest import MOST_FILES
from fanout.text.sanitize import escape_invisible
from fanout.text.units import format_size

MOST_BYTES = 500 * 1000**2
LARGEST_FILE = 100 * 1000**2
_NAMED = 5


def check_sizes(sizes: Mapping[str, int], top: str, *, big: bool) -> None:
    """Raise UsageError if the files are too large or too many. ``big`` allows any size."""
    if len(sizes) > MOST_FILES:
        folders: dict[str, int] = {}
        for path in sizes:
            folder = path.partition("/")[0] + "/" * ("/" in path)
            folders[folder] = folders.get(folder, 0) + 1
        largest = max(folders, key=lambda name: folders[name])
        raise UsageError(
            f"{top} has {len(sizes)} files, and a sync takes at most {MOST_FILES}: {folders[largest]} are in {largest}",
            hint=build_ignore_command(largest),
        )
    total = sum(sizes.values())
    large = sorted(sizes, key=lambda path: (-sizes[path], path))[:_NAMED]
    if big or not large or (total <= MOST_BYTES and sizes[large[0]] <= LARGEST_FILE):
        return
    rows = ", ".join(f"{escape_invisible(path)} ({format_size(sizes[path])})" for path in large)
    limit = f"{format_size(MOST_BYTES)} in all and {format_size(LARGEST_FILE)} in one file"
    raise UsageError(
        f"{top} has {format_size(total)}, and a sync takes at most {limit}: the largest files are {rows}",
        hint=f"{build_ignore_command(large[0])}   for data and checkpoints: "
        f"rsync -a --partial {shlex.quote(large[0])} HOST:{shlex.quote(top)}/   or allow any size: --big",
    )


def build_ignore_command(path: str) -> str:
    """Return the command that excludes a path."""
    return f"echo {shlex.quote('/' + path)} >> .fanoutignore"
