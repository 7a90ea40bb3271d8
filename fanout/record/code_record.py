"""Code record: which code a run with --sync had on all hosts, as ``code.json`` in the directory of the run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

from fanout.model import schema
from fanout.model.frozen import frozen
from fanout.model.schema import Flag, Integer, Text

CODE_FILE = "code.json"
_SCHEMA = {
    "directory": Text(),
    "manifest": Text(64),
    "files": Integer(0),
    "bytes": Integer(0),
    "commit": Text(64),
    "is_dirty": Flag(),
}


@frozen
class CodeRecord:
    """The code of a run. ``manifest`` is the hash of all files; ``commit`` is "" outside of a git clone."""

    directory: str
    manifest: str
    files: int
    bytes: int
    commit: str
    is_dirty: bool

    def to_json(self) -> str:
        return json.dumps({"v": 1} | asdict(self), indent=2) + "\n"

    def describe(self) -> str:
        """Return ``manifest X, commit Y with uncommitted changes, from DIR``."""
        changes = " with uncommitted changes" if self.is_dirty else ""
        commit = f", commit {self.commit}{changes}" if self.commit else ""
        return f"manifest {self.manifest}{commit}, from {self.directory}"


def read_code_record(directory: str) -> CodeRecord | None:
    """Return the code of a recorded run; None without --sync, or if the file cannot be understood."""
    try:
        with open(os.path.join(directory, CODE_FILE), "rb") as file:
            entry = schema.parse_json(file.read(1 << 16), _SCHEMA)
    except (OSError, schema.InvalidValue):
        return None
    return CodeRecord(**{name: entry[name] for name in _SCHEMA})
