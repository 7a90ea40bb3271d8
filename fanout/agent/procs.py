"""Processes as /proc shows them: who descends from us, who carries our mark, and ending them all.

A run's processes are found twice: as descendants (the keeper is a subreaper, so nothing can slip out of its tree) and
by the mark in their environment (for the case that the keeper itself was killed). ``waitpid`` saying ECHILD is, for a
subreaper, the proof that no descendant is left.
"""

from __future__ import annotations

import os
import signal
import time

TYPE_CHECKING = False  # what typing says, without the price of importing it on a host
if TYPE_CHECKING:
    from typing import Callable


def stat_of(pid: int) -> tuple:
    """(state, parent pid, process group, start time in ticks), or () if there is no such process."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            rest = file.read().rpartition(b")")[2].split()
    except OSError:
        return ()
    return rest[0].decode(), int(rest[1]), int(rest[2]), int(rest[19])


def all_pids() -> list:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants(root: int) -> list:
    """Living processes below ``root`` (zombies left out), parents before children."""
    children: dict = {}
    states = {}
    for pid in all_pids():
        seen = stat_of(pid)
        if seen:
            states[pid] = seen[0]
            children.setdefault(seen[1], []).append(pid)
    found = []
    queue = list(children.get(root, ()))
    while queue:
        pid = queue.pop(0)
        queue.extend(children.get(pid, ()))
        if states[pid] not in "ZX":
            found.append(pid)
    return found


def marked(mark: list) -> list:
    """Living processes of our uid, ourselves apart, whose environment holds every ``NAME=value`` of ``mark``."""
    wanted = [entry.encode() for entry in mark]
    found = []
    for pid in all_pids():
        if pid == os.getpid():
            continue
        try:
            if os.stat("/proc/%d" % pid).st_uid != os.getuid():
                continue
            with open("/proc/%d/environ" % pid, "rb") as file:
                entries = set(file.read().split(b"\0"))
        except OSError:
            continue
        seen = stat_of(pid)
        if seen and seen[0] not in "ZX" and all(entry in entries for entry in wanted):
            found.append(pid)
    return found


def mark_of(pid: int) -> tuple:
    """(run, node) that a living process of our uid is marked with; ("", 0) if it is none of a run's."""
    try:
        if os.stat("/proc/%d" % pid).st_uid != os.getuid():
            return "", 0
        with open("/proc/%d/environ" % pid, "rb") as file:
            env = dict(entry.partition(b"=")[::2] for entry in file.read().split(b"\0"))
    except OSError:
        return "", 0
    node = env.get(b"FANOUT_NODE", b"")
    return env.get(b"FANOUT_RUN_ID", b"").decode("ascii", "replace"), int(node) if node.isdigit() else 0


def describe(pid: int) -> dict:
    """What a person needs to know of a process that will not die."""
    seen = stat_of(pid)
    command = command_of(pid) or _read("/proc/%d/comm" % pid).strip()
    return {"pid": pid, "state": seen[0] if seen else "?", "wchan": _read("/proc/%d/wchan" % pid), "cmd": command[:300]}


def command_of(pid: int) -> str:
    return _read("/proc/%d/cmdline" % pid).replace("\0", " ").strip()


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(4096).decode("utf-8", "replace")
    except OSError:
        return ""


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # gone already, or not ours to signal: the look afterwards tells


def reap() -> list:
    """(pid, wait status) of every child that has ended; None at the end when no child is left at all."""
    ended: list = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            ended.append(None)
            return ended
        if pid == 0:
            return ended
        ended.append((pid, status))


def kill_all(find: Callable[[], list], seconds: float, on_reap: Callable[[], None] | None = None) -> tuple:
    """End everything that ``find()`` returns; (how many were killed, those that would not die).

    Stop first, so that a process that forks in a loop holds still, until no new one turns up; then KILL; then look
    again. ``on_reap`` is called between rounds, for a subreaper to collect its dead.
    """
    killed: set = set()
    deadline = time.monotonic() + seconds
    pause = 0.002
    while True:
        stopped: set = set()
        while True:
            fresh = [pid for pid in find() if pid not in stopped]
            if not fresh:
                break
            for pid in fresh:
                send(pid, signal.SIGSTOP)
            stopped.update(fresh)
        for pid in stopped:
            send(pid, signal.SIGKILL)
        killed |= stopped
        if on_reap is not None:
            on_reap()
        if not stopped:
            return len(killed), []
        if time.monotonic() > deadline:
            return len(killed), [pid for pid in find() if stat_of(pid)]
        time.sleep(pause)  # nothing wakes us when a process that is not our child goes
        pause = min(pause * 2, 0.2)


def signalled(status: int) -> dict:
    """A wait status as exactly one of code and signal."""
    if os.WIFSIGNALED(status):
        return {"code": None, "signal": os.WTERMSIG(status)}
    return {"code": os.WEXITSTATUS(status), "signal": None}


def oom_kills() -> int:
    """How many processes the kernel has killed for memory on this host since boot (/proc/vmstat)."""
    try:
        with open("/proc/vmstat", "rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0
