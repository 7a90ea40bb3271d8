"""What a task's config says about paths and batches, found without knowing the task. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_STARTS = ("/", "./", "../", "~/")
_OUTPUT_WORDS = ("output", "save", "log", "ckpt", "checkpoint", "cache", "result", "profile", "trace", "dump")

_MOST = 40


def paths(values: Any) -> dict[str, str]:
    """``input`` paths as ``config:data.train_path``, those written to as ``output:train.output_dir``.

    A value is a path if it begins like one. A value such as ``org/model`` under a key that ends in ``_path`` may as
    well be a name on a hub: it is left alone.
    """
    found = {}
    for key, value in _leaves(values):
        if value.startswith(_STARTS) and "\n" not in value and "*" not in value:
            last = key.rpartition(".")[2].lower()
            written = any(word in last for word in _OUTPUT_WORDS) and "load" not in last and "resume" not in last
            found[f"{'output' if written else 'config'}:{key}"] = value
        elif key.rpartition(".")[2].lower() in ("output_dir", "save_dir", "log_dir") and value and "://" not in value:
            found[f"output:{key}"] = value
        if len(found) >= _MOST:
            break
    return found


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every string with its dotted key."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(values, (list, tuple)):
        for number, value in enumerate(values):
            yield from _leaves(value, f"{prefix}[{number}]")
    elif isinstance(values, str):
        yield prefix, values


def batches(values: Any) -> tuple[int, int] | None:
    """(global batch, micro batch) under the names that trainers use, None unless both are there."""
    numbers = dict(_numbers(values))
    whole = next((number for name, number in numbers.items() if name.endswith("global_batch_size")), None)
    micro = next((number for name, number in numbers.items() if name.endswith("micro_batch_size")), None)
    return (whole, micro) if whole and micro else None


def _numbers(values: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _numbers(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(values, int) and not isinstance(values, bool):
        yield prefix, values
