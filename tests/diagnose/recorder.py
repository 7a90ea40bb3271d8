"""Flight recorder dumps in torch's format (2.10): for each rank a pickle of plain values."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

WORLD = ("0", "default_pg")
TRAIN = "/home/ann/proj/train.py"
TORCH = "/opt/venv/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py"


def build_entry(
    number: int,
    op: str = "all_reduce",
    *,
    sizes: tuple[int, ...] = (4, 4),
    dtype: str = "Float",
    state: str = "completed",
    group: tuple[str, str] = WORLD,
    pg: int = 0,
    line: int = 88,
    backend: str = "nccl",
    retired: bool | None = None,
    p2p: bool = False,
) -> dict[str, Any]:
    """Return one entry."""
    frames = [{"name": op, "filename": TORCH, "line": 3245}, {"name": "step", "filename": TRAIN, "line": line}]
    seen = {"started": (1, None), "completed": (1, 2)}.get(state, (None, None))
    return {
        "frames": frames, "record_id": number - 1, "pg_id": pg, "process_group": group, "collective_seq_id": number,
        "p2p_seq_id": 0, "op_id": number, "profiling_name": f"{backend}:{op}", "time_created_ns": 1_795_404_605_984_000_000,
        "input_sizes": [list(sizes)], "input_dtypes": [dtype], "output_sizes": [list(sizes)], "output_dtypes": [dtype],
        "state": state, "time_discovered_started_ns": seen[0], "time_discovered_completed_ns": seen[1],
        "retired": state == "completed" if retired is None else retired, "timeout_ms": 600000, "is_p2p": p2p,
        "thread_id": "1", "thread_name": "pt_main_thread",
    }  # fmt: skip


def build_finished(up_to: int, **more: Any) -> list[dict[str, Any]]:
    """Return finished collectives."""
    return [build_entry(number, **more) for number in range(1, up_to + 1)]


def build_dump(
    entries: Iterable[Mapping[str, Any]],
    *,
    world: int = 4,
    groups: Mapping[str, tuple[str, Iterable[int]]] | None = None,
) -> dict[str, Any]:
    """Return the dump of one rank; ``groups`` are further groups: name -> (description, ranks)."""
    everyone = {"0": ("default_pg", range(world)), **(groups or {})}
    config = {name: {"name": name, "desc": desc, "ranks": str(list(ranks))} for name, (desc, ranks) in everyone.items()}
    return {
        "version": "2.10",
        "comm_lib_version": "2.27.3",
        "pg_config": config,
        "pg_status": {},
        "entries": list(entries),
    }


def write_dumps(directory: Path, dumps: Mapping[int, Mapping[str, Any]], prefix: str = "nccl_trace_rank_") -> list[str]:
    """Write the files."""
    directory.mkdir(parents=True, exist_ok=True)
    for rank, each in dumps.items():
        (directory / f"{prefix}{rank}").write_bytes(pickle.dumps(each, protocol=2))
    return [str(directory / f"{prefix}{rank}") for rank in dumps]
