"""GPU vendors' tools: where nvidia-smi, rocm-smi and npu-smi are, their arguments, and the readers of their answers.

The callers start the tools, because their limits on time differ.
"""

from __future__ import annotations

import json
import os
import re

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

EXTRA_PATH = ":/usr/bin:/usr/local/cuda/bin:/opt/rocm/bin:/usr/local/sbin"
NVIDIA_FORMAT = "--format=csv,noheader,nounits"
_USED = re.compile(r"(\d+)\s*/\s*(\d+)")


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


def parse_npu_info(text: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Parse the tables of ``npu-smi info``; return (chips in the order of torch's indices, processes).

    Each chip takes two lines: NPU, name, health, power and temperature; then chip, bus, AI core and memory. A process has
    the index of its chip in the first list. Sizes are in MiB.
    """
    chips: list[dict[str, Any]] = []
    processes: list[dict[str, Any]] = []
    upper: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        words = [cell.split() for cell in cells]
        if len(cells) == 3 and words[0] and words[0][0].isdigit():
            if ":" in cells[1] and upper:
                chips.append(_parse_chip(upper, words[0][0], cells[2]))
            elif ":" not in cells[1]:
                upper = cells
        elif len(cells) == 4 and len(words[0]) == 2 and cells[1].isdigit() and cells[3].isdigit():
            at = [number for number, chip in enumerate(chips) if [chip["npu"], chip["chip"]] == words[0]]
            processes.append({"gpu": at[0] if at else None, "pid": int(cells[1]), "used": float(cells[3])})
    return chips, processes


def _parse_chip(upper: list[str], chip: str, lower: str) -> dict[str, Any]:
    name, numbers, sizes = upper[0].split(), upper[2].split(), _USED.findall(lower)
    memory = max(sizes, key=lambda size: int(size[1])) if sizes else ("", "")  # of a 910, HBM; of a 310, the other
    known: dict[str, Any] = {"npu": name[0], "chip": chip, "name": " ".join(["Ascend", *name[1:]]), "health": upper[1]}
    known["util"] = parse_number(lower.split()[0]) if lower.split() else None
    known["used"], known["total"] = parse_number(memory[0]), parse_number(memory[1])
    known["watts"], known["temp"] = map(parse_number, (numbers + ["", ""])[:2])
    return known


def parse_number(cell: str) -> float | None:
    """Return the number in a cell of a tool; None for "[N/A]" and similar."""
    try:
        return float(cell)
    except ValueError:
        return None
