"""Sync question: the host's side of ``fanout sync``. It compares its directory with a manifest, and receives files.

The question has an input. The launcher sends records, and the host answers after each step: ready, shared, compared,
received (again and again), done. A host that does not write answers with left after shared. The end of the input ends
the question: then the host deletes what has arrived so far.
"""

from __future__ import annotations

import json
import os
import struct
import time

from .probe_tools import FactUnavailable
from .sync_paths import LINK, STATE, check_rows, refuse_live_run, resolve_target, split_path
from .sync_state import create_token, delete_token, find_tokens, lock_target, read_manifest, write_manifest
from .sync_tree import BLOCKED, CHANGED, EXECUTABLE, MODE, NEW, BlockedPath, SyncTree
from .sync_writer import SyncWriter, delete_earlier, delete_stale_temporaries, set_executable

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Iterator

RECORD = struct.Struct("!cII")  # kind, row of the manifest, bytes that follow
ACKNOWLEDGED_BYTES = 512 << 10  # a slow connection is acknowledged more often, every _REPORT_SECONDS
MOST_ROWS = 100_000
_LARGEST_RECORD = 1 << 20
_NAMED = 200  # paths in one answer
_REPORT_SECONDS = 2.0
_UNNAMED = ("__pycache__", ".git")


class InputEnded(Exception):
    """The launcher has ended the sync, or the connection broke."""


class RecordReader:
    """The records of the launcher, from a binary file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.consumed = 0

    def read_record(self) -> tuple[bytes, int, bytes]:
        """Return (kind, row, data). Raises InputEnded."""
        kind, index, size = RECORD.unpack(self._read_bytes(RECORD.size))
        if size > _LARGEST_RECORD:
            raise FactUnavailable("a record of %d bytes" % size, "failed")
        return kind, index, self._read_bytes(size)

    def _read_bytes(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise InputEnded
        self.consumed += size
        return data


def ask_sync(args: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Answer each step of a sync of the directory ``args["target"]``; with ``dry_run``, change no file."""
    top = resolve_target(args["target"])
    refuse_live_run(top)
    token, dry_run = "", bool(args["dry_run"])
    is_new = not os.path.isdir(top)
    try:
        if is_new and not dry_run:
            os.makedirs(top)
        if not is_new or not dry_run:
            token = create_token(top)
        yield {"state": "ready", "path": top, "token": token, "is_new": is_new}
        reader = RecordReader(os.fdopen(0, "rb", 1 << 20, closefd=False))
        _, _, data = reader.read_record()
        yield {"state": "shared", "seen": find_tokens(top, json.loads(data)) if token else []}
        _, _, data = reader.read_record()  # all hosts have looked for the tokens
        if token:
            delete_token(top, token)
            token = ""
        if not json.loads(data)["writes"]:
            yield {"state": "left"}
            return
        exchange = SyncExchange(reader, top, args)
        for answer in exchange.iter_answers():
            yield answer
    except InputEnded:
        return
    except OSError as error:
        where = " (%s)" % os.fsdecode(error.filename) if error.filename else ""
        raise FactUnavailable("cannot write in %s: %s%s" % (top, error.strerror, where)) from None
    except BlockedPath as error:
        raise FactUnavailable(str(error)) from None
    finally:
        if token:
            delete_token(top, token)


class SyncExchange:
    """Comparison and transfer of one directory."""

    def __init__(self, reader: RecordReader, top: str, args: dict[str, Any]) -> None:
        self._reader, self._top = reader, top
        self._by, self._dry_run = str(args["by"]), bool(args["dry_run"])
        self._rows: list[list[Any]] = []
        self._earlier: dict[str, list[Any]] = {}
        self._codes: list[str] = []
        self._problems: list[str] = []
        self._has_lock = False

    def iter_answers(self) -> Iterator[dict[str, Any]]:
        """Read the manifest, compare, receive the files, and publish them."""
        self._rows = self._read_rows()
        if not os.path.isdir(self._top):  # a dry run
            yield describe_comparison(NEW * len(self._rows), [], {}, [], [])
            return
        tree, lock = SyncTree(self._top), -1
        try:
            if not self._dry_run:
                lock, self._has_lock = lock_target(tree, self._by)
            self._earlier = read_manifest(tree)
            for count in self._iter_compared(tree):
                yield {"state": "comparing", "files": count}
            gone = self._list_gone(tree)
            codes = "".join(self._codes)
            yield describe_comparison(codes, self._problems, self._earlier, gone, self._list_extra(tree))
            if not self._dry_run and not self._problems:
                for answer in self._iter_received(tree, gone):
                    yield answer
        finally:
            tree.close()
            if lock >= 0:
                os.close(lock)

    def _read_rows(self) -> list[list[Any]]:
        parts = []
        while True:
            kind, _, data = self._reader.read_record()
            if kind == b"m":
                break
            parts.append(data)
        rows: list[list[Any]] = json.loads(b"".join(parts))
        if len(rows) > MOST_ROWS:
            raise FactUnavailable("a manifest of %d files" % len(rows), "failed")
        check_rows(rows)
        return rows

    def _iter_compared(self, tree: SyncTree) -> Iterator[int]:
        """Compare all rows; yield the number of rows so far from time to time."""
        reported_at = time.monotonic()
        for count, row in enumerate(self._rows):
            try:
                names = split_path(row[0])
                self._codes.append(tree.compare_row(names, row, self._earlier.get(row[0])))
            except BlockedPath as error:
                self._codes.append(BLOCKED)
                self._problems.append(str(error))
            except OSError as error:
                self._codes.append(BLOCKED)
                self._problems.append("%s: %s" % (row[0], error.strerror))
            if time.monotonic() - reported_at > _REPORT_SECONDS:
                reported_at = time.monotonic()
                yield count

    def _list_gone(self, tree: SyncTree) -> list[list[Any]]:
        """Return the rows of earlier syncs that exist here unchanged, and that the project does not have any more."""
        paths = {row[0] for row in self._rows}
        found = []
        for path, row in sorted(self._earlier.items()):
            if path not in paths:
                try:
                    if tree.is_unchanged(split_path(path), row):
                        found.append(row)
                except OSError:
                    continue  # it cannot be read, so it is not proven to be unchanged
        return found

    def _list_extra(self, tree: SyncTree) -> list[str]:
        """Return what the directories of the project have beside it. Delete the temporary files of a killed sync."""
        known = {row[0] for row in self._rows}
        folders = {"": True}
        for path in list(known):
            while "/" in path:
                path = path.rpartition("/")[0]
                folders[path] = True
        found = []
        for folder in sorted(folders):
            names = folder.split("/") if folder else []
            try:
                entries = tree.list_entries(names)
                if self._has_lock:
                    delete_stale_temporaries(tree, names, entries)
            except (OSError, BlockedPath):
                continue  # it does not exist yet, or its problem is reported already
            for name, is_directory in entries:
                path = "/".join([*names, name])
                if path in known or path in folders or name in _UNNAMED or name.startswith(STATE):
                    continue
                found.append(path + "/" * is_directory)
        return found

    def _iter_received(self, tree: SyncTree, gone: list[list[Any]]) -> Iterator[dict[str, Any]]:
        """Receive files up to the record ``C``, then publish them; yield the bytes so far."""
        writer = SyncWriter(tree, self._rows)
        acknowledged, reported_at = self._reader.consumed, time.monotonic()
        try:
            while True:
                kind, index, data = self._reader.read_record()
                if kind == b"C":
                    break
                if kind == b"F":
                    writer.begin_file(index)
                elif kind == b"D":
                    writer.add_bytes(data)
                elif kind == b"E":
                    writer.end_file(replaces=self._codes[index] == CHANGED)
                is_late = time.monotonic() - reported_at > _REPORT_SECONDS
                if is_late or self._reader.consumed - acknowledged >= ACKNOWLEDGED_BYTES:
                    acknowledged, reported_at = self._reader.consumed, time.monotonic()
                    yield {"state": "received", "bytes": acknowledged}
            yield self._publish(tree, writer, gone if json.loads(data)["delete"] else [], gone)
        finally:
            writer.discard_files()

    def _publish(
        self, tree: SyncTree, writer: SyncWriter, doomed: list[list[Any]], gone: list[list[Any]]
    ) -> dict[str, Any]:
        """Rename, set modes, delete, and write the manifest. Return the last answer."""
        pairs = list(zip(self._rows, self._codes))
        for index, (row, code) in enumerate(pairs):
            if row[1] == LINK and code in (NEW, CHANGED):
                writer.add_link(index)
        writer.check_complete({index for index, code in enumerate(self._codes) if code in (NEW, CHANGED)})
        written = writer.publish_files()
        for row in [row for row, code in pairs if code == MODE]:
            set_executable(tree, split_path(row[0]), row[1] == EXECUTABLE)
            written += 1
        deleted = delete_earlier(tree, doomed)
        changed = set(writer.changed)
        own = [
            row for row, code in pairs if row[0] not in changed and (code in (NEW, CHANGED) or row[0] in self._earlier)
        ]
        own += [self._earlier[path] for path in sorted(changed & set(self._earlier))]
        write_manifest(tree, own + ([] if doomed else gone))
        return {"state": "done", "written": written, "deleted": deleted, "changed": writer.changed[:_NAMED]}


def describe_comparison(
    codes: str, problems: list[str], earlier: dict[str, list[Any]], gone: list[list[Any]], extra: list[str]
) -> dict[str, Any]:
    """Return the answer after the comparison. Long lists are cut, and come with their length."""
    paths = [row[0] for row in gone]
    own = set(paths) | {path[: at + 1] for path in paths for at, letter in enumerate(path) if letter == "/"}
    rest = [path for path in extra if path not in own]
    return {
        "state": "compared",
        "codes": codes,
        "problems": problems[:_NAMED],
        "problem_count": len(problems),
        "gone": paths[:_NAMED],
        "gone_count": len(paths),
        "earlier_count": len(earlier),
        "extra": rest[:_NAMED],
        "extra_count": len(rest),
    }
