"""Processes as /proc shows them: our descendants, processes with a run's mark, and how they ended.

A run's processes are found in two ways: as descendants (the keeper is a subreaper, so none can leave its tree), and by
the mark in their environment (in case the keeper itself was killed). For a subreaper, ECHILD from ``waitpid`` proves
that no descendant is left.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Callable

_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h


def read_stat(pid: int) -> tuple:
    """Return (state, parent pid, process group, start time in ticks), or () if there is no such process."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            rest = file.read().rpartition(b")")[2].split()
    except OSError:
        return ()
    return rest[0].decode(), int(rest[1]), int(rest[2]), int(rest[19])


def read_start_time(pid: int) -> float | None:
    """Return the Unix time at which a process began; None if it is not visible (proc(5), hidepid)."""
    seen = read_stat(pid)
    booted = [line.split()[1] for line in read_text("/proc/stat", 1 << 20).splitlines() if line.startswith("btime ")]
    return int(booted[0]) + seen[3] / os.sysconf("SC_CLK_TCK") if seen and booted else None


def read_boot_id() -> str:
    """Return what changes with each boot. In a container this is also the start of its first process.

    So a container that was restarted counts as rebooted: no earlier process is left in it.
    """
    boot_id = read_text("/proc/sys/kernel/random/boot_id").strip()
    first = read_stat(1) if is_in_container() else ()
    return "%s %d" % (boot_id, first[3]) if first else boot_id


def is_in_container() -> bool:
    """Return whether this process is in a container with its own pids."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino != _INITIAL_PID_NAMESPACE
    except OSError:
        return False


def find_engine() -> str:
    """Return the engine of the container that this process is in, by its file or variable there; else ""."""
    if os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER"):
        return "apptainer"
    files = (("podman", "/run/.containerenv"), ("docker", "/.dockerenv"))
    return next((engine for engine, path in files if os.path.exists(path)), "")


def has_live_thread(pid: int, state: str) -> bool:
    """Return whether a process in this state has a thread that has not exited.

    The first thread of a killed process becomes a zombie at once. Its other threads may still wait in the kernel and
    hold a GPU or a port. Only when the last of them has ended can the parent reap the process.
    """
    if state not in "ZX":
        return True
    return len(list_threads(pid)) > 1


def is_running(pid: int, start: int) -> bool:
    """Return whether the process that began at ``start`` (ticks) still runs. A pid alone may be reused."""
    seen = read_stat(pid)
    return bool(seen) and seen[3] == start and has_live_thread(pid, seen[0])


def list_pids() -> list:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants(root: int) -> list:
    """Return the running processes below ``root``, parents before children. Zombies without threads are left out.

    One search of all processes of the machine finds them, so none is missed that exists during the whole search.
    """
    return _walk_tree(root, _group_children())


def watch_descendants(root: int) -> list:
    """Return the running processes below ``root``, for a watch that repeats: much cheaper than ``descendants``.

    A child may be missed while one of its siblings ends (proc(5), task/TID/children). The next look finds it.
    """
    return _walk_tree(root, get_children_lookup())


def get_children_lookup() -> Callable:
    """Return a function that returns the children of a process, as cheap as the kernel allows."""
    has_children_files = os.path.exists("/proc/self/task/%d/children" % os.getpid())  # CONFIG_PROC_CHILDREN
    return _list_children if has_children_files else _group_children()


def _walk_tree(root: int, children: Callable) -> list:
    found = []
    queue = list(children(root))
    while queue:
        pid = queue.pop(0)
        queue.extend(children(pid))
        seen = read_stat(pid)
        if seen and has_live_thread(pid, seen[0]):
            found.append(pid)
    return found


def _list_children(pid: int) -> list:
    found: list = []
    for thread in list_threads(pid):
        found += read_text("/proc/%d/task/%d/children" % (pid, thread), 1 << 16).split()
    return [int(child) for child in found]


def _group_children() -> Callable:
    """Return a function that returns the children of a process, from one search of all processes."""
    found: dict = {}
    for pid in list_pids():
        seen = read_stat(pid)
        if seen:
            found.setdefault(seen[1], []).append(pid)
    return lambda pid: found.get(pid, ())


def read_environ(pid: int) -> bytes:
    """Return the environment block of a process. Raises OSError.

    If the first thread has exited, the block is read from another thread.
    """
    with open("/proc/%d/environ" % pid, "rb") as file:
        block = file.read()
    for thread in [] if block else list_threads(pid):
        try:
            with open("/proc/%d/task/%d/environ" % (pid, thread), "rb") as file:
                block = block or file.read()
        except OSError:
            continue
    return block


def find_marked(mark: list) -> list:
    """Return live processes of our uid, except this one, whose environment has every ``NAME=value`` of ``mark``."""
    wanted = [entry.encode() for entry in mark]
    found = []
    for pid in list_pids():
        if pid == os.getpid():
            continue
        try:
            if os.stat("/proc/%d" % pid).st_uid != os.getuid():
                continue
            entries = set(read_environ(pid).split(b"\0"))
        except OSError:
            continue
        seen = read_stat(pid)
        if seen and has_live_thread(pid, seen[0]) and all(entry in entries for entry in wanted):
            found.append(pid)
    return found


def read_variables(pid: int) -> dict:
    """Return the environment of a process: name -> value, as bytes. Raises OSError."""
    return dict(entry.partition(b"=")[::2] for entry in read_environ(pid).split(b"\0"))


def read_mark(pid: int) -> tuple:
    """Return (run, node) from the mark of a live process of our uid; ("", 0) if it has none."""
    try:
        if os.stat("/proc/%d" % pid).st_uid != os.getuid():
            return "", 0
        env = read_variables(pid)
    except OSError:
        return "", 0
    node = env.get(b"FANOUT_NODE", b"")
    return env.get(b"FANOUT_RUN_ID", b"").decode("ascii", "replace"), int(node) if node.isdigit() else 0


def describe_process(pid: int) -> dict:
    """Return what a user needs to know about a process that cannot be killed."""
    seen = read_stat(pid)
    state, where = seen[0] if seen else "?", "/proc/%d" % pid
    if state in "ZX":  # if its first thread has exited, another thread shows where it waits
        for thread in list_threads(pid):
            words = read_text("%s/task/%d/stat" % (where, thread)).rpartition(")")[2].split()
            if words and words[0] not in "ZX":
                state, where = words[0], "%s/task/%d" % (where, thread)
                break
    command = read_command(pid) or read_text("/proc/%d/comm" % pid).strip()
    return {"pid": pid, "state": state, "wchan": read_text(where + "/wchan"), "cmd": command[:300]}


def list_threads(pid: int) -> list:
    """Return the ids of a process's threads, including exited ones that are not yet reaped."""
    try:
        return [int(name) for name in os.listdir("/proc/%d/task" % pid)]
    except OSError:
        return []


def read_command(pid: int) -> str:
    return read_text("/proc/%d/cmdline" % pid).replace("\0", " ").strip()


def read_text(path: str, most: int = 4096) -> str:
    """Return the content of a small kernel file; "" if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(most).decode("utf-8", "replace")
    except OSError:
        return ""


def send_signal(pid: int, number: int) -> None:
    """Send a signal, if the process exists and this user may do so."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended, or belongs to another user: the next scan shows which


def has_ended(child: int) -> bool:
    """Return whether a child has ended. It is not reaped, so /proc still has it."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def has_no_child() -> bool:
    """Return whether this process has no child at all: for a subreaper, the proof that no descendant is left."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def reap_children() -> list:
    """Return (pid, wait status) of all children that have ended; a final None means that no child is left."""
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


def decode_wait_status(status: int) -> dict:
    """Return a wait status as exactly one of code and signal."""
    if os.WIFSIGNALED(status):
        return {"code": None, "signal": os.WTERMSIG(status)}
    return {"code": os.WEXITSTATUS(status), "signal": None}


def wait_for_end(pid: int, seconds: float) -> bool:
    """Wait for a killed child for at most ``seconds``; return whether it has ended. One that hangs in the kernel has
    not."""
    until = time.monotonic() + seconds
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True
