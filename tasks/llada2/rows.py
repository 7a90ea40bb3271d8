"""Rows of data files: jsonl, a JSON list, or parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .errors import UserError, first_line

# (place for a message, the row)
Row = tuple[str, Any]


def find_files(path: str, endings: tuple[str, ...]) -> list[str]:
    """Return the files that ``path`` names: a file, a directory, or several of them separated by commas."""
    found: list[str] = []
    for part in filter(None, (p.strip() for p in path.split(","))):
        if os.path.isdir(part):
            inside = sorted(name for name in os.listdir(part) if name.endswith(endings))
            if not inside:
                raise UserError(f"data.train_path {part}: no file that ends in {' or '.join(endings)}")
            found += [os.path.join(part, name) for name in inside]
        elif os.path.isfile(part):
            found.append(part)
        else:
            raise UserError(f"data.train_path {part}: no such file or directory (from {os.getcwd()})")
    return found


@contextmanager
def report_unreadable(name: str) -> Iterator[None]:
    """Report in one line a file that cannot be read, or is not text."""
    try:
        yield
    except OSError as error:
        raise UserError(f"data.train_path {name}: {error.strerror or first_line(error)}") from None
    except UnicodeDecodeError:
        raise UserError(f"data.train_path {name}: not text in UTF-8") from None


def read_rows(path: str) -> Iterator[Row]:
    """Yield each row of the files at ``path``, with its place: ``train.jsonl:7``, ``train.parquet row 7``."""
    for name in find_files(path, tuple(_READERS)):
        reader = _READERS.get(os.path.splitext(name)[1])
        if reader is None:
            raise UserError(
                f"data.train_path {name}: only {', '.join(_READERS)} can be read; convert it to one of them"
            )
        with report_unreadable(name):
            yield from reader(name)


def _read_jsonl(name: str) -> Iterator[Row]:
    with open(name, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{name}:{number}: not valid JSON: {error}") from None
            yield f"{name}:{number}", row


def _read_json(name: str) -> Iterator[Row]:
    """Read one JSON list of rows, or JSON lines under the name of JSON."""
    with open(name, encoding="utf-8") as stream:
        first = next((line for line in stream if line.strip()), "")
        if not first.lstrip().startswith("["):
            yield from _read_jsonl(name)
            return
        stream.seek(0)
        try:
            found = json.load(stream)
        except ValueError as error:
            raise UserError(f"{name}: not valid JSON: {error}") from None
    for number, row in enumerate(found, 1):
        yield f"{name} row {number}", row


def _read_parquet(name: str) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise UserError(f"data.train_path {name}: parquet needs pyarrow; type: pip install pyarrow") from None
    try:
        number = 0
        with parquet.ParquetFile(name) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{name} row {number}", row
    except ArrowException as error:
        raise UserError(f"data.train_path {name}: not readable as parquet: {first_line(error)}") from None


_READERS: dict[str, Callable[[str], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
}
