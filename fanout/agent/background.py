"""Background processes: those that still run when train.sh returns 0, and which of them the run waits for.

The keeper is a subreaper. Every process whose parent ended is its child, so it reaps the launcher (torchrun, accelerate,
deepspeed, mpirun) that train.sh left behind, or the shell that runs it. The status of that child is the status of the run.
"""

from __future__ import annotations

import os
import time

from . import processes

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Iterable

LAUNCHERS = (
    "torchrun accelerate deepspeed trl llamafactory-cli swift axolotl composer lightning "
    "mpirun mpiexec mpiexec.hydra orterun prterun horovodrun"
).split()
LAUNCHER_MODULES = ("torch.distributed.", "accelerate.", "deepspeed.", "trl.", "lightning.", "axolotl.", "composer.")
TERMINAL_SERVERS = ("tmux", "screen", "dtach", "abduco")  # their status is not that of the program in them
SETTLE_SECONDS = 1.0
PAUSE_SECONDS = 0.5  # between two scans
MOST_NAMED = 16  # processes in one message


class BackgroundWatch:
    """The launchers that outlived train.sh, and the status with which they ended."""

    def __init__(self, task: Iterable) -> None:
        """Set up the watch. ``task`` holds the task file: a Python process with it on its command line is waited for."""
        self._task = {os.path.basename(word).encode() for word in task if word.endswith(".py")}
        self._names: dict = {}  # pid of a launcher -> its name
        self._parents: dict = {}  # pid of a child of the keeper that a launcher runs below -> its wait status, or None
        self._how: dict = {}  # how train.sh ended
        self._next_scan = self._settled_at = 0.0
        self.mode = ""
        self.is_waiting = False  # train.sh was reaped, and its end is not yet the end of the run

    @property
    def is_settling(self) -> bool:
        """Return whether a process of train.sh may still become a launcher: a shell forks before it calls execve."""
        return self.is_waiting and not self._names

    @property
    def name(self) -> str:
        """Return the launchers that were found, for a message."""
        return ", ".join("%s (pid %d)" % (name, pid) for pid, name in self._names.items())

    def begin(self, status: int, mode: str) -> None:
        """Handle the end of train.sh. If it failed, or without a mode, what it left behind is killed."""
        self._how = dict(processes.decode_wait_status(status), why="")
        self.is_waiting, self.mode = True, "" if status else mode
        self._settled_at = time.monotonic() + (SETTLE_SECONDS if self.mode in ("wait", "end") else 0.0)

    def step(self, keeper: int) -> dict:
        """Return the end of the run when it is known, else {}."""
        if self._names:
            if None in self._parents.values() or (time.monotonic() < self._next_scan and not processes.has_no_child()):
                return {}
            self._next_scan = time.monotonic() + PAUSE_SECONDS
            return {} if self._find_launchers(keeper) else self.build_exit()
        if time.monotonic() >= self._settled_at or not processes.descendants(keeper):
            return self._how
        if not self._find_launchers(keeper) or self.mode == "wait":
            return {}
        why = "train.sh returned while %s ran; the keeper ended it (--background end)" % self.name
        return dict(self._how, reason="background-ended", why=why)

    def describe(self) -> str:
        """Return one line per launcher: its pid and command."""
        return describe_processes(self._names)

    def _find_launchers(self, keeper: int) -> list:
        """Return the pids of the live launchers below the keeper, and note the keeper's children that they belong to."""
        pids = processes.descendants(keeper)
        names = {pid: name for pid, name in ((pid, self._get_launcher_name(pid)) for pid in pids) if name}
        for pid, name in names.items():
            top = _find_top(pid, keeper)
            if top and not _runs_terminals(top):
                self._parents.setdefault(top, None)
            if _find_outer(pid, names) == pid:  # not a worker of a launcher, or a launcher within another one
                self._names.setdefault(pid, name)
        return list(names)

    def note_end(self, pid: int, status: int) -> None:
        """Note the wait status of a child that the keeper has reaped."""
        if pid in self._parents:
            self._parents[pid] = status

    def build_exit(self) -> dict:
        """Return the end of the launchers: the first bad status of a launcher, or that it is unknown."""
        known = [processes.decode_wait_status(status) for status in self._parents.values() if status is not None]
        bad = [how for how in known if how["code"] != 0]
        if bad:
            why = "the status of %s, which train.sh left running" % self.name
            return dict(bad[0], reason="ended", why=why)
        if known:
            return {"code": 0, "signal": None, "reason": "ended", "why": ""}
        why = "train.sh returned 0 while %s ran; the keeper cannot read its status" % self.name
        return {"code": None, "signal": None, "reason": "unknown", "why": why}

    def _get_launcher_name(self, pid: int) -> str:
        """Return the name of a launcher, or of a Python process that runs the task without torchrun; "" for others.

        A worker of torchrun is no launcher: its torchrun is waited for. Without its torchrun it is an orphan.
        """
        words = read_words(pid)
        names: list = [os.path.basename(word).decode("utf-8", "replace") for word in words[:3]]
        for name in names:
            if name in LAUNCHERS:
                return str(name)
        if not names or not names[0].startswith("python"):
            return ""
        module = words[words.index(b"-m") + 1 : words.index(b"-m") + 2] if b"-m" in words[:6] else []
        called = str(module[0].decode("utf-8", "replace")) if module else ""
        if called.startswith(LAUNCHER_MODULES):
            return called
        is_rank = self._task.intersection(os.path.basename(word) for word in words) or _has_rank(pid)
        return str(names[0]) if is_rank and not _is_elastic(pid) else ""


def describe_processes(pids: Iterable) -> str:
    """Return one line per process: its pid and command."""
    lines = []
    for pid in pids:
        command = processes.read_command(pid) or processes.read_text("/proc/%d/comm" % pid).strip()
        if command:
            lines.append("pid %d %s" % (pid, command.replace("\n", " ")[:200]))
    more = ["%d more" % (len(lines) - MOST_NAMED)] if len(lines) > MOST_NAMED else []
    return "\n".join(lines[:MOST_NAMED] + more)


def list_signalled(pids: list) -> list:
    """Return the processes that get SIGTERM first: torchrun forwards it to its workers, so they get none of their own."""
    first = [pid for pid in pids if not _is_elastic(pid)]
    return first or pids


def read_words(pid: int) -> list:
    """Return the command line of a process as bytes; [] if it cannot be read."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            return file.read(8192).rstrip(b"\0").split(b"\0")
    except OSError:
        return []


def _read_names(pid: int) -> set:
    try:
        return set(processes.read_variables(pid))
    except OSError:
        return set()


def _has_rank(pid: int) -> bool:
    return bool(_read_names(pid) & {b"RANK", b"LOCAL_RANK"})


def _is_elastic(pid: int) -> bool:
    return b"TORCHELASTIC_RUN_ID" in _read_names(pid)


def _find_top(pid: int, keeper: int) -> int:
    """Return the child of the keeper that a process belongs to; 0 if it has just ended."""
    while True:
        seen = processes.read_stat(pid)
        if not seen or seen[1] <= 1:
            return 0
        if seen[1] == keeper:
            return pid
        pid = seen[1]


def _find_outer(pid: int, names: dict) -> int:
    """Return the outermost process of ``names`` above a process, or the process itself."""
    outer, seen = pid, processes.read_stat(pid)
    while seen and seen[1] > 1:
        outer = seen[1] if seen[1] in names else outer
        seen = processes.read_stat(seen[1])
    return outer


def _runs_terminals(pid: int) -> bool:
    return processes.read_text("/proc/%d/comm" % pid).lower().startswith(TERMINAL_SERVERS)
