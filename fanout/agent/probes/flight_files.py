"""Flight recorder dumps of a run: finds the files, keeps those of this run, and reads them.

A dump counts if it is where a rank's environment or a version of torch puts it, belongs to our user, and was written
since the run began. The launcher knows which ranks belong to which run, and drops the others.
"""

from __future__ import annotations

import glob
import os
import time
from functools import partial

from .. import prepare
from . import flight_dump
from .probe_tools import FactUnavailable, ForkedCall, read_or_empty
from .stacks import find_directory, list_processes, read_environ

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

SECONDS = 2.0  # for all dumps together
MOST_FILES = 64
SLACK_SECONDS = 5.0
_NAMES = ("TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE")


def read_dumps(args: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one object per dump; for an unreadable dump, the reason. ``args``: run, node, since (seconds)."""
    until = time.monotonic() + SECONDS
    after = time.time() - float(args.get("since", 3600.0)) - SLACK_SECONDS
    found = dict.fromkeys(path for prefix in _find_prefixes(args) for path in sorted(_find_dumps(prefix, after)))
    return [_read_in_child(path, until - time.monotonic()) for path in list(found)[:MOST_FILES]]


def _find_dumps(prefix: str, after: float) -> list[str]:
    found = []
    for path in glob.glob(glob.escape(prefix) + "*"):
        if path[len(prefix) :].isdigit():
            try:
                seen = os.stat(path)
            except OSError:
                continue
            if seen.st_uid == os.getuid() and seen.st_mtime >= after:
                found.append(path)
    return found


def _read_in_child(path: str, seconds: float) -> dict[str, Any]:
    """Read one dump in a child process, so that a harmful file affects only that child."""
    if seconds <= 0:
        return {"path": path, "untold": "the time limit was reached before it was read"}
    try:
        content: dict[str, Any] = ForkedCall(partial(_read_confined, path), seconds).get_result()
    except FactUnavailable as error:
        return {"path": path, "untold": str(error)}
    return content


def _read_confined(path: str) -> dict[str, Any]:
    flight_dump.limit_memory()
    return flight_dump.read_dump(path)


def _find_prefixes(args: dict[str, Any]) -> list[str]:
    """Return the path prefixes of dumps: from the ranks' notes, from live processes' environments, and torch's
    defaults."""
    directory = find_directory(args)
    home = os.path.expanduser("~")
    found = _read_noted_prefixes(directory)
    for pid in list_processes(args):
        found += _parse_environment(read_environ(pid), _read_cwd(pid))
    workdir = str(prepare.read_run_info(directory).get("cwd") or args.get("cwd") or "/")
    found += _parse_environment(dict(os.environb), workdir)
    found += [home + "/.cache/torch/comm_lib_trace_rank_", home + "/.cache/torch/nccl_trace_rank_"]
    return list(dict.fromkeys([*found, "/tmp/nccl_trace_rank_"]))


def _read_noted_prefixes(directory: str) -> list[str]:
    """Return the prefixes that our sitecustomize wrote (see stack_hook.py). They outlive the rank and include train.sh's
    exports."""
    found = []
    for path in glob.glob(glob.escape(directory) + "/stacks/[0-9]*"):
        for line in read_or_empty(path, 8192).splitlines()[:2]:
            if line.startswith("#dumps "):
                found.append(line[7:])
    return found


def _parse_environment(env: dict[bytes, bytes], cwd: str) -> list[str]:
    found = [os.path.join(cwd, os.fsdecode(env[name.encode()])) for name in _NAMES if env.get(name.encode())]
    cache = os.fsdecode(env.get(b"XDG_CACHE_HOME", b""))
    return [*found, *([cache + "/torch/comm_lib_trace_rank_"] if cache else [])]


def _read_cwd(pid: int) -> str:
    try:
        return os.readlink("/proc/%d/cwd" % pid)
    except OSError:
        return "/"
