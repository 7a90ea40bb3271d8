"""GPU vendors' tools: where nvidia-smi and rocm-smi are, their arguments, and the readers of their answers.

The callers start the tools, because their limits on time differ.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

EXTRA_PATH = ":/usr/bin:/usr/local/cuda/bin:/opt/rocm/bin:/usr/local/sbin"
NVIDIA_FORMAT = "--format=csv,noheader,nounits"


def find_tool(names: tuple[str, ...], path: str) -> tuple[str, str]:
    """Return (name, path) of the first of these tools that is in ``path`` or in a usual directory; ("", "") without one."""
    for name in names:
        for directory in (path + EXTRA_PATH).split(":"):
            found = os.path.join(directory, name)
            if directory and os.access(found, os.X_OK) and not os.path.isdir(found):
                return name, found
    return "", ""


def build_nvidia_query(fields: tuple[str, ...], what: str = "gpu") -> list[str]:
    """Return the arguments of nvidia-smi that print these fields of all GPUs (or ``compute-apps``, ``remapped-rows``)."""
    return ["--query-%s=%s" % (what, ",".join(fields)), NVIDIA_FORMAT]


def split_nvidia_rows(text: str, cells: int = 0) -> list[list[str]]:
    """Return the cells of every line of nvidia-smi; with ``cells``, only of lines with that many, so without messages."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    return [row for row in rows if len(row) == cells] if cells else rows


def parse_rocm(text: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Parse the JSON of rocm-smi after any warnings; return (cards in order, ``system``). Raises ValueError.

    ``{"card0": {…}, "system": {"Driver version": …, "PID4711": "python, 1, bytes, …"}}``
    """
    table: dict[str, Any] = json.loads(text[text.index("{") :])
    names = [name for name in table if name.startswith("card") and name[4:].isdigit()]
    return [table[name] for name in sorted(names, key=lambda name: int(name[4:]))], table.get("system", {})
