"""Config scan: find paths and batch sizes in a task's config without knowledge of the task. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

MOST = 100  # paths that the check looks up on the hosts
_STARTS = ("/", "./", "../", "~/")
_OUTPUT_NAMES = ("output", "save", "log", "ckpt", "checkpoint", "cache", "result", "profile", "trace", "dump")
_PATH_KEY = re.compile(r"(^|_)(path|file|dir|directory|folder|root|filename|jsonl?|csv|parquet)s?$")
_HAS_ENDING = re.compile(
    r"\.(jsonl?|csv|tsv|txt|parquet|arrow|ya?ml|toml|bin|pt|pth|ckpt|safetensors|np[yz]|h5|hdf5|idx|mmap|pkl|model|tar|gz|zst|zip"
    r"|lmdb|db|mds|py)$"
)
_NO_PATH = re.compile(r"[\s\"'<>|=$]|://|^\w+:[^/\\]")  # prose, variables that only the task expands, addresses
_PATTERN = re.compile(r"[*?\[{]")


def find_paths(values: Any) -> dict[str, str]:
    """Return key -> path. ``config:data.train_path`` is read, ``output:train.output_dir`` is written.

    ``maybe:model.path`` may also be a name on a hub (``org/model``). A value is a path if it begins like a path,
    ends like a file name, or has a key such as ``data_dir``. For a pattern (``data/*.jsonl``) it is the directory.
    """
    found = {}
    for key, value in _iterate_strings(values):
        for number, part in enumerate(parts := [part for part in value.split(",") if part] or [""]):
            kind = _classify_path(key, part)
            if kind:
                suffix = f"[{number}]" if len(parts) > 1 else ""
                found[f"{kind}:{key}{suffix}"] = _strip_pattern(part)
    return found


def _classify_path(key: str, value: str) -> str:
    """Return ``config``, ``output`` or ``maybe``; "" for a value that is no path."""
    last = re.sub(r"\[\d+\]$", "", key.rpartition(".")[2]).lower()
    is_certain_key = bool(_PATH_KEY.search(last))
    begins = value.startswith(_STARTS)
    if not value.strip("./~") or _NO_PATH.search(value):
        return ""
    if not begins and not is_certain_key and not ("/" in value and _HAS_ENDING.search(value)):
        return ""
    written = any(word in last for word in _OUTPUT_NAMES) and "load" not in last and "resume" not in last
    if written:
        return "output" if begins or last.endswith(("dir", "path", "directory", "folder")) else ""
    is_certain = (
        begins or _HAS_ENDING.search(value) or value.count("/") > 1 or _PATTERN.search(value) or last.endswith("_dir")
    )
    return "config" if is_certain else "maybe"


def _strip_pattern(path: str) -> str:
    """Return the directory part of a pattern."""
    match = _PATTERN.search(path)
    return path if match is None else path[: match.start()].rpartition("/")[0] or "."


def _iterate_strings(values: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each string value with its dotted key."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _iterate_strings(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(values, (list, tuple)):
        for number, value in enumerate(values):
            yield from _iterate_strings(value, f"{prefix}[{number}]")
    elif isinstance(values, str):
        yield prefix, values


def find_batch_sizes(values: Any) -> tuple[int, int] | None:
    """Return (global batch size, micro batch size) by their usual keys; None if one is missing."""
    numbers = dict(_iterate_integers(values))
    whole = next((number for name, number in numbers.items() if name.endswith("global_batch_size")), None)
    micro = next((number for name, number in numbers.items() if name.endswith("micro_batch_size")), None)
    return (whole, micro) if whole and micro else None


def is_offload_enabled(values: Any) -> bool:
    """Return whether a config sets ``enable_fsdp_offload``, with which VeOmni refuses gradient accumulation."""
    if not isinstance(values, Mapping):
        return False
    return values.get("enable_fsdp_offload") is True or any(is_offload_enabled(value) for value in values.values())


def _iterate_integers(values: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _iterate_integers(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(values, int) and not isinstance(values, bool):
        yield prefix, values
