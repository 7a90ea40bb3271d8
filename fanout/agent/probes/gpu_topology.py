"""GPU links of this host, from the matrices that nvidia-smi prints."""

from __future__ import annotations

import re

from .probe_tools import FactUnavailable, ToolProcess

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

QUESTIONS = {"paths": ["topo", "-m"], "peers": ["topo", "-p2p", "r"]}
_ROW = re.compile(r"^\s*GPU\d+\s+(\S.*)$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def count_links(programs: dict[str, ToolProcess], count: int) -> dict[str, Any]:
    """Return ``paths`` and ``peers``: link type -> number of GPU pairs (``{"NV18": 28}``, ``{"OK": 28}``).

    A matrix is {} if this driver does not print it, or not for all GPUs.
    """
    return {name: _count_pairs(_read_text(program), count) for name, program in programs.items()}


def _read_text(program: ToolProcess) -> str:
    try:
        status, text = program.get_output()
    except FactUnavailable:
        return ""
    return text if status == 0 else ""


def _count_pairs(text: str, count: int) -> dict[str, int]:
    rows = [match.group(1).split()[:count] for match in map(_ROW.match, _COLOUR.sub("", text).splitlines()) if match]
    rows = [row for row in rows if "X" in row]  # the heading row has no X
    if len(rows) != count or any(len(row) != count for row in rows):
        return {}
    found: dict[str, int] = {}
    for at, row in enumerate(rows):
        for word in row[at + 1 :]:
            found[word] = found.get(word, 0) + 1
    return dict(sorted(found.items()))
