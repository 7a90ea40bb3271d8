"""Stacks by py-spy, for ranks that do not answer our signal, if py-spy is on PATH or beside the rank's python.

py-spy reads another process's memory without a signal or a pause. So it also reads a rank that is stopped or waits in
the kernel. Only ``native`` frames need a short pause of the rank. The result has the form of faulthandler's dumps.
"""

from __future__ import annotations

import json
import os
import time

from .probe_tools import FactUnavailable, ToolProcess, read_or_empty

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

NAME = "py-spy"
NATIVE_SECONDS = 12.0  # the symbol tables of torch's libraries are large
DEEPEST = 60
LONGEST_NAME = 160  # a C++ template name may fill a page
_YAMA = "/proc/sys/kernel/yama/ptrace_scope"


def dump_stacks(pids: list[int], *, seconds: float, native: bool = False) -> dict[int, dict[str, Any]]:
    """Return pid -> ``way`` and ``stack`` (and ``native`` if requested), or ``untold``: why there is no stack."""
    until = time.monotonic() + seconds
    dumps: dict[int, dict[str, Any]] = {}
    waiting = list(pids)
    for _ in range(2):  # a process that moves while it is read may need a second attempt
        begun = {pid: _start_dump(pid, native, until) for pid in waiting}
        dumps.update({pid: _read_dump(pid, program) for pid, program in begun.items()})
        waiting = [pid for pid in waiting if dumps[pid].get("again") and time.monotonic() < until]
    for entry in dumps.values():
        entry.pop("again", None)
    return dumps


def find_py_spy(pid: int) -> str:
    """Return the py-spy for this process: beside its python, on its PATH, or on ours; "" if there is none."""
    argv0 = read_or_empty("/proc/%d/cmdline" % pid).split("\0")[0]
    places = [os.path.dirname(argv0)] if os.path.isabs(argv0) else []
    for entry in read_or_empty("/proc/%d/environ" % pid).split("\0"):
        if entry.startswith("PATH="):
            places += entry[5:].split(":")
    places += os.environ.get("PATH", os.defpath).split(":")
    candidates = (os.path.join(place, NAME) for place in places if os.path.isabs(place))
    return next((path for path in candidates if os.access(path, os.X_OK) and os.path.isfile(path)), "")


def _start_dump(pid: int, native: bool, until: float) -> ToolProcess | str:
    path = find_py_spy(pid)
    if not path:
        return NAME + " is not installed there"
    argv = [path, "dump", "--json", "--pid", str(pid), "--native" if native else "--nonblocking"]
    try:
        return ToolProcess(argv, {"PATH": os.defpath, "RUST_BACKTRACE": "0"}, max(0.1, until - time.monotonic()))
    except FactUnavailable as error:
        return str(error)


def _read_dump(pid: int, program: ToolProcess | str) -> dict[str, Any]:
    if isinstance(program, str):
        return {"untold": program}
    try:
        status, text = program.get_output()
        if status == 0:
            return _parse_stack(pid, json.loads(text[text.index("[") :]))
    except FactUnavailable as error:
        return {"untold": str(error)}
    except (ValueError, KeyError, TypeError):
        return {"untold": NAME + " printed output that cannot be parsed", "again": True}
    if "ermission denied" in text or "not permitted" in text:
        scope = read_or_empty(_YAMA).strip()
        because = " (kernel.yama.ptrace_scope is %s)" % scope if scope not in ("", "0") else ""
        return {"untold": "%s may not read pid %d%s" % (NAME, pid, because)}
    first = text.strip().splitlines()[0] if text.strip() else "exit %d" % status
    return {"untold": "%s: %s" % (NAME, first[:160]), "again": True}


def _parse_stack(pid: int, threads: list) -> dict[str, Any]:
    """Return the main thread's frames, innermost first. A frame with a module is not Python's."""
    main = next((each for each in threads if each["os_thread_id"] == pid), threads[0])
    frames = main["frames"]
    mixed = [[frame["filename"], frame["line"], _format_name(frame)] for frame in frames]
    stack = [entry for entry, frame in zip(mixed, frames) if frame["module"] is None][:DEEPEST]
    answer: dict[str, Any] = {"way": NAME, "stack": stack}
    return dict(answer, native=mixed[:DEEPEST]) if len(mixed) > len(stack) else answer


def _format_name(frame: dict[str, Any]) -> str:
    """Return a Python function's name without its class, as faulthandler prints it, so that stacks group."""
    name = str(frame["name"])
    return name.rpartition(".")[2] if frame["module"] is None else name[:LONGEST_NAME]
