"""Flight recorder dumps of torch among the user's files: find them by name or first bytes, read them in a child process.

A dump is a pickle of unknown origin. The reader is the same code that is sent to hosts. In a child process, a bad file
can only make that process exit.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from fanout.agent import bundle
from fanout.diagnose.import_logs.log_files import identify_files

READER_TIMEOUT = 20.0  # timeout of one reader process
FILES_PER_READER = 64
_NAME = re.compile(r"(?:^|/)(?:nccl|comm_lib)_trace_rank_\d+$")
_NUMBERED = re.compile(r"\d$")
_PICKLE = b"\x80\x02"


def is_dump(path: str) -> bool:
    """Return whether the file is a dump: by torch's names, or by the first bytes of torch's pickles."""
    if _NAME.search(path):
        return True
    if not _NUMBERED.search(path):
        return False
    try:
        with open(path, "rb") as file:
            return file.read(2) == _PICKLE
    except OSError:
        return False


def read_dumps(paths: Sequence[str], cwd: str) -> list[dict[str, Any]]:
    """Return one summary per file, in the order of the files."""
    out: list[dict[str, Any]] = []
    while len(out) < len(paths):
        some = paths[len(out) : len(out) + FILES_PER_READER]
        dumps = _run_reader(some, cwd)
        out += dumps
        if len(dumps) < len(some):
            out.append({"path": some[len(dumps)], "untold": "its reader crashed or timed out"})
    return out


def find_hosts(paths: Sequence[str]) -> dict[str, str]:
    """Return path -> host if the files lie in folders named after hosts; else the host is "", unknown."""
    folders = {os.path.dirname(path) for path in paths}
    if len(folders) < 2:
        return dict.fromkeys(paths, "")
    names = {
        source.path: source.host
        for source in identify_files([os.path.join(folder, "log") for folder in sorted(folders)])
    }
    return {path: names[os.path.join(os.path.dirname(path), "log")] for path in paths}


def _run_reader(paths: Sequence[str], cwd: str) -> list[dict[str, Any]]:
    argv = [sys.executable, "-I", "-S", "-c", bundle.read_dump_reader(), *paths]
    try:
        done = subprocess.run(
            argv, check=False, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, timeout=READER_TIMEOUT
        )
        text = done.stdout
    except subprocess.TimeoutExpired as late:
        text = late.stdout or b""
    whole = text[: text.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]
