"""Rank stacks: the Python stack of each rank of a run, the kernel's state of it, and whether it moves.

Only a process that has our handler and our open file gets the signal (see stack_hook.py). A rank without them, or one that
does not answer, is read by py-spy if the host has it; otherwise only /proc's facts are returned. With two samples, each
rank also reports whether it moved: another stack, or bytes read or written. CPU time counts only for a rank without a
GPU, because a rank with one spins while it waits.
"""

from __future__ import annotations

import os
import re
import time

from .. import processes, run_files, state_dir
from ..stack_hook import SIGNAL
from . import py_spy
from .probe_tools import FactUnavailable, read_or_empty, read_start

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any

WAIT_SECONDS = 2.0  # how long a process may take to answer the signal
SPY_SECONDS = 2.0  # for py-spy, after that
OURS = "faulthandler"
QUIET_SECONDS = 0.05  # a dump is complete when its file has not grown for so long
LONGEST = 1 << 16
DEEPEST = 60
MOVED_BYTES = 1 << 16
_FRAME = re.compile(r'^  File "(.*)", line (\d+|\?+) in (.*)$')


def ask_stacks(args: dict[str, Any]) -> dict[str, Any]:
    """Return one object per process that is a rank or has our handler.

    ``args``: run, node, samples, apart and spy (seconds), native.
    """
    directory = find_directory(args)
    keeper = int(run_files.read_status(directory).get("keeper", 0))
    if not keeper:
        raise FactUnavailable("the keeper of run %s has not recorded its pid" % args["run"])
    first = _sample(directory, keeper, args)
    if args.get("samples", 1) > 1 and first["ranks"]:
        time.sleep(float(args.get("apart", 2.0)))
        second = _sample(directory, keeper, args)
        _mark_moved(first, second)
        return second
    return first


def find_directory(args: dict[str, Any]) -> str:
    """Return the directory of the run in ``args``. Raises FactUnavailable."""
    directory = state_dir.find_run(args["run"], args["node"])
    if not directory:
        raise FactUnavailable("no record of run %s on this host" % args["run"])
    return directory


def list_processes(args: dict[str, Any]) -> list[int]:
    """Return all live processes below the run's keeper. Raises FactUnavailable if the host has no record of the run."""
    keeper = int(run_files.read_status(find_directory(args)).get("keeper", 0))
    return processes.descendants(keeper) if keeper else []


def _sample(directory: str, keeper: int, args: dict[str, Any]) -> dict[str, Any]:
    """Take one sample: all processes below the keeper, and the stack of each rank that has one."""
    everyone = processes.descendants(keeper)
    ranks = _find_ranks(everyone)
    asked = {}
    for pid in ranks:
        path = os.path.join(directory, "stacks", str(pid))
        if _accepts_signal(pid, path):
            asked[pid] = (path, _read_size(path))
            processes.send_signal(pid, SIGNAL)
    stacks = _collect_stacks(ranks, _collect_dumps(asked), args)
    samples = [dict(_collect_facts(pid), **stacks[pid], **who) for pid, who in ranks.items()]
    others = {str(pid): _read_cpu_seconds(pid) for pid in everyone if pid not in ranks}
    return {"ranks": samples, "others": others, "at": time.time()}


def _collect_stacks(ranks: dict, dumps: dict[int, str], args: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Return pid -> ``stack`` and its ``way``, or ``untold``: why there is none."""
    samples = {pid: parse_main_thread(dumps.get(pid, "")) for pid in ranks}
    out = {pid: {"way": OURS if stack else "", "stack": stack} for pid, stack in samples.items()}
    native = bool(args.get("native"))
    silent = [pid for pid, stack in samples.items() if native or not stack]
    seconds = py_spy.NATIVE_SECONDS if native else float(args.get("spy", SPY_SECONDS))
    for pid, entry in (py_spy.dump_stacks(silent, seconds=seconds, native=native) if silent else {}).items():
        if "stack" in entry and not out[pid]["stack"]:
            out[pid].update(entry)
        else:  # with ``native``, ranks that wrote their own stack
            out[pid].update((key, entry[key]) for key in ("native", "untold") if key in entry)
    return out


def _find_ranks(everyone: list[int]) -> dict[int, dict[str, Any]]:
    """Return pid -> rank of each rank's topmost process; without named ranks, every Python with our handler."""
    found: dict[int, dict[str, Any]] = {}
    seen = set()
    for pid in everyone:  # parents come before their children
        env = read_environ(pid)
        rank = env.get(b"RANK", b"")
        if rank.isdigit() and rank not in seen:
            seen.add(rank)
            local = env.get(b"LOCAL_RANK", b"")
            found[pid] = {"rank": int(rank), "local_rank": int(local) if local.isdigit() else None}
    return found or {pid: {"rank": None, "local_rank": None} for pid in everyone if _has_handler(pid)}


def read_environ(pid: int) -> dict[bytes, bytes]:
    """Return the environment of a process; {} if it cannot be read."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            return dict(entry.partition(b"=")[::2] for entry in file.read().split(b"\0"))
    except OSError:
        return {}


def _has_handler(pid: int) -> bool:
    """Return whether the process has a handler for our signal. Without one the signal would kill it."""
    for line in read_or_empty("/proc/%d/status" % pid).splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (SIGNAL - 1) & 1)
    return False


def _accepts_signal(pid: int, path: str) -> bool:
    """Return whether the process has our handler and still has our file open. A program may close any descriptor."""
    if not _has_handler(pid):
        return False
    try:
        links = ("/proc/%d/fd/%s" % (pid, name) for name in os.listdir("/proc/%d/fd" % pid))
        return any(_read_link(link) == path for link in links)
    except OSError:
        return False


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _read_size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _collect_dumps(asked: dict[int, tuple[str, int]]) -> dict[int, str]:
    """Return what each process wrote after its signal. A process that is stopped or in the kernel writes nothing."""
    grown = {pid: (size, time.monotonic()) for pid, (_, size) in asked.items()}
    until = time.monotonic() + WAIT_SECONDS
    waiting = set(asked)
    while waiting and time.monotonic() < until:
        time.sleep(0.01)
        for pid in list(waiting):
            path, before = asked[pid]
            size, since = grown[pid]
            now = _read_size(path)
            if now != size:
                grown[pid] = (now, time.monotonic())
            elif size > before and time.monotonic() - since > QUIET_SECONDS:
                waiting.discard(pid)
    return {pid: _read_tail(path, before) for pid, (path, before) in asked.items()}


def _read_tail(path: str, start: int) -> str:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(LONGEST).decode("utf-8", "replace")


def read_last_stacks(directory: str) -> list[dict[str, Any]]:
    """Return ranks that have ended and left a stack: they crashed, or torchrun ended them."""
    found: dict[int, dict[str, Any]] = {}
    for name in sorted(os.listdir(os.path.join(directory, "stacks"))):
        if not name.isdigit() or processes.read_stat(int(name)):
            continue
        head, _, text = read_or_empty(os.path.join(directory, "stacks", name)).partition("\n")
        words = head.split()
        if len(words) == 4 and words[0] == "#rank" and words[1].isdigit() and "thread 0x" in text:
            local = int(words[2]) if words[2].isdigit() else None
            found[int(name)] = {
                "rank": int(words[1]),
                "local_rank": local,
                "parent": int(words[3]),
                **_parse_last_dump(text),
            }
    tops = {pid: rank for pid, rank in found.items() if rank.pop("parent") not in found}
    return [dict(rank, pid=pid) for pid, rank in tops.items() if rank["stack"] or rank["crash"]]


def _parse_last_dump(text: str) -> dict[str, Any]:
    """Return the last dump in a file, and the kind of crash, if any. A rank's forked children may have written too."""
    dumps = ["" if not part.strip() else part for part in re.split(r"\n\n(?=Fatal |Thread 0x|Current thread 0x)", text)]
    crash = re.search(r"^Fatal Python error: (.*)$", text, re.MULTILINE)
    stacks = [parse_main_thread(part) for part in dumps]
    own = [stack for stack in stacks if stack and not any("multiprocessing" in frame[0] for frame in stack)]
    mains = [stack for stack in own if stack[-1][2] == "<module>"]
    return {"state": "X", "crash": crash.group(1) if crash else "", "stack": (mains or own or [[]])[-1]}


def parse_main_thread(dump: str) -> list[list[Any]]:
    """Return the main thread's frames of a faulthandler dump, innermost first: [file, line, function]."""
    threads: list[list[list[Any]]] = []
    current = 0
    for line in dump.splitlines():
        frame = _FRAME.match(line)
        if frame is not None and threads:
            number = frame.group(2)
            threads[-1].append([frame.group(1), int(number) if number.isdigit() else 0, frame.group(3)])
        elif line.startswith(("Thread 0x", "Current thread 0x")):
            current = len(threads) if line.startswith("Current") else current
            threads.append([])
    if not threads:
        return []
    main = [thread for thread in threads if thread and thread[-1][2] == "<module>"]
    return (main[-1] if main else threads[min(current, len(threads) - 1)])[:DEEPEST]


def _collect_facts(pid: int) -> dict[str, Any]:
    seen = processes.read_stat(pid)
    wchan = read_or_empty("/proc/%d/wchan" % pid).strip("\0 \n")
    facts = {"pid": pid, "state": seen[0] if seen else "?", "wchan": "" if wchan == "0" else wchan}
    return dict(facts, cpu=_read_cpu_seconds(pid), io=_read_io_bytes(pid), gpu=_holds_gpu(pid))


def _read_cpu_seconds(pid: int) -> float:
    """Return the seconds of CPU time that the process has used."""
    try:
        rest = read_start("/proc/%d/stat" % pid).rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(rest[11]) + int(rest[12])) / float(os.sysconf("SC_CLK_TCK"))


def _read_io_bytes(pid: int) -> int:
    """Return the bytes that the process has read and written, as far as the kernel reports them."""
    total = 0
    for line in read_or_empty("/proc/%d/io" % pid).splitlines():
        name, _, value = line.partition(": ")
        if name in ("rchar", "wchar"):
            total += int(value)
    return total


def _holds_gpu(pid: int) -> bool:
    try:
        names = os.listdir("/proc/%d/fd" % pid)
    except OSError:
        return False
    return any(_read_link("/proc/%d/fd/%s" % (pid, name)).startswith(("/dev/nvidia", "/dev/kfd")) for name in names)


def _mark_moved(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Add ``moved`` to each rank of the second sample, and to the sample the number of other busy processes."""
    span = second["at"] - first["at"]
    before = {rank["pid"]: rank for rank in first["ranks"]}
    for rank in second["ranks"]:
        old = before.get(rank["pid"])
        rank["moved"] = old is None or _has_moved(old, rank, span)
    busy = [pid for pid, cpu in second["others"].items() if cpu - first["others"].get(pid, cpu) > span / 2]
    second["busy"] = len(busy)  # not ranks, but work: compilers, data loaders


def _has_moved(old: dict[str, Any], new: dict[str, Any], span: float) -> bool:
    if old["stack"] != new["stack"] or abs(new["io"] - old["io"]) > MOVED_BYTES:
        return True
    return not new["gpu"] and bool(new["cpu"] - old["cpu"] > span / 2)
