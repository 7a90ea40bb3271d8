"""Planned stop on one host: send a signal to the ranks that handle it, so that they save and end by themselves.

A signal without a handler kills a process. So only processes with a handler receive it (SigCgt in /proc/PID/status):
the first one of each rank. Shells and launchers such as torchrun never receive it, because they would end or kill the
ranks. Children of a rank inherit its handler, so they do not receive it either.
"""

from __future__ import annotations

import os
import signal

from . import lease, processes

SCAN_SECONDS = 1.0  # between two searches for a rank that has begun to handle the signal
WATCH_SECONDS = 0.2  # between two looks at the ranks that received it
NO_RANK = -1  # the rank of a process that has none in its environment
RANK_VARIABLES = (b"RANK", b"OMPI_COMM_WORLD_RANK", b"PMIX_RANK", b"PMI_RANK")
SHELLS = frozenset("sh bash dash zsh ksh mksh fish csh tcsh ash busybox".split())
LAUNCHERS = frozenset(
    "torchrun torchx accelerate deepspeed composer colossalai horovodrun ft_launcher mpirun mpiexec orterun prun prte "
    "prted orted hydra_pmi_proxy srun slurmstepd timeout sudo su env nohup setsid script numactl taskset nsys ncu".split()
)
LAUNCHER_MODULES = (
    "torch.distributed.",
    "accelerate.",
    "deepspeed.launcher.",
    "nvidia_resiliency_ext.fault_tolerance.",
)


class RankProcess:
    """The process that stands for one rank. ``start`` (ticks) distinguishes it from a later process with its pid."""

    def __init__(self, pid: int, start: int, rank: int) -> None:
        self.pid = pid
        self.start = start
        self.rank = rank


class SaveSignal:
    """The planned stop of one run: one signal for each rank, and when the ranks end after it."""

    def __init__(self) -> None:
        self.requested = False
        self.messages: list = []  # the frames so far, for relays that connect later
        self._number = 0
        self._name = ""
        self._sent_at = 0.0
        self._open: dict = {}  # rank -> the process that received the signal and still runs
        self._next = 0.0

    @property
    def is_active(self) -> bool:
        """Return whether a rank is still expected to handle the signal or to end."""
        return self.requested and (not self._sent_at or bool(self._open))

    def handle_request(self, name: str, sends: bool) -> list:
        """Begin the planned stop; unless the request ``sends``, only return the frame about the ranks that could take part.

        A second request to send changes nothing: no rank may receive the signal twice.
        """
        number = parse_signal(name)
        if not sends:
            found, others = find_ranks(os.getpid(), number)
            return [_build_frame(name, found, others, sent=False)]
        if not self.requested:
            self.requested, self._name, self._number = True, name, number
        return []

    def step(self) -> list:
        """Send the signal once a rank handles it, and return the new frames about it and about ranks that ended."""
        now = lease.read_boottime()
        if not self.is_active or now < self._next:
            return []
        fresh = self._find_ends(now) if self._sent_at else self._send(now)
        self._next = now + (WATCH_SECONDS if self._sent_at else SCAN_SECONDS)
        self.messages += fresh
        return fresh

    def finish(self) -> list:
        """Return the frames about ranks that have ended with train.sh."""
        self.messages += (fresh := self._find_ends(lease.read_boottime()))
        return fresh

    def _send(self, now: float) -> list:
        found, others = find_ranks(os.getpid(), self._number)
        for each in found:
            try:
                os.kill(each.pid, self._number)
                self._open[each.rank if each.rank != NO_RANK else -each.pid] = each
                self._sent_at = now
            except (ProcessLookupError, PermissionError):
                others.append(each.rank)
        if not self._sent_at and self.messages:
            return []  # the frame without a rank was sent already
        return [_build_frame(self._name, list(self._open.values()), others, sent=True)]

    def _find_ends(self, now: float) -> list:
        ended = {key: each for key, each in self._open.items() if not processes.is_running(each.pid, each.start)}
        for key in ended:
            del self._open[key]
        seconds = round(now - self._sent_at, 1)
        return [{"t": "rank_ended", "rank": each.rank, "seconds": seconds} for each in ended.values()]


def parse_signal(name: str) -> int:
    """Return the number of a signal on this host. Raises ValueError for an unknown name."""
    try:
        return int(getattr(signal, "SIG" + name))
    except AttributeError:
        raise ValueError("no signal SIG%s" % name) from None


def find_ranks(keeper: int, number: int) -> tuple:
    """Return (the process of each rank that handles the signal, the ranks without a handler).

    If no process has a rank in its environment, the topmost processes with a handler count as ranks.
    """
    everyone = [pid for pid in processes.descendants(keeper) if not _only_starts_programs(pid)]
    ranks: dict = {}
    for pid in everyone:  # parents come before their children
        rank = _read_rank(pid)
        if rank is not None:
            ranks.setdefault(rank, []).append(pid)
    if ranks:
        found = [(_choose_process(pids, number), rank) for rank, pids in sorted(ranks.items())]
    else:
        found = [(pid, NO_RANK) for pid in _find_topmost(everyone, number)]
    chosen = []
    for pid, rank in found:
        seen = processes.read_stat(pid) if pid else ()
        if seen:
            chosen.append(RankProcess(pid, seen[3], rank))
    return chosen, [rank for pid, rank in found if not pid]


def _choose_process(pids: list, number: int) -> int:
    """Return the process of a rank that gets the signal, 0 if it has none: its first one, or its first Python.

    Other programs that a rank starts do not count: Go programs have a handler for every signal.
    """
    wanted = [pid for at, pid in enumerate(pids) if at == 0 or _is_python(pid)]
    return next((pid for pid in wanted if handles_signal(pid, number)), 0)


def _find_topmost(pids: list, number: int) -> list:
    """Return the processes with a handler that have no ancestor with one; ``pids`` has parents before their children."""
    below: set = set()  # processes with such an ancestor, and those that receive the signal
    topmost = []
    for pid in pids:
        seen = processes.read_stat(pid)
        if seen and seen[1] in below:
            below.add(pid)
        elif seen and (seen[1] not in pids or _is_python(pid)) and handles_signal(pid, number):
            below.add(pid)
            topmost.append(pid)
    return topmost


def handles_signal(pid: int, number: int) -> bool:
    """Return whether the process has a handler for the signal."""
    for line in processes.read_text("/proc/%d/status" % pid, 8192).splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def _only_starts_programs(pid: int) -> bool:
    """Return whether the process is a shell or a launcher: a program that only starts and watches others."""
    words = processes.read_command(pid).split(" ")
    names = [os.path.basename(word) for word in words[:3]]
    if os.path.basename(_read_program(pid)) in SHELLS or names[0].lstrip("-") in SHELLS | LAUNCHERS:
        return True
    if not _is_python(pid):
        return False
    script = next((word for word in words[1:] if not word.startswith("-")), "")  # after python's own flags, or of -m
    return os.path.basename(script) in LAUNCHERS or script.startswith(LAUNCHER_MODULES)


def _is_python(pid: int) -> bool:
    return os.path.basename(_read_program(pid)).startswith(("python", "pypy"))


def _read_program(pid: int) -> str:
    try:
        return os.readlink("/proc/%d/exe" % pid)
    except OSError:
        return ""


def _read_rank(pid: int) -> object:
    """Return the rank in the environment of a process; None without one."""
    try:
        env = processes.read_variables(pid)
    except OSError:
        return None
    values = [env[name] for name in RANK_VARIABLES if name in env]
    return int(values[0]) if values and values[0].isdigit() else None


def _build_frame(name: str, found: list, others: list, sent: bool) -> dict:
    return {
        "t": "save_handlers",
        "signal": name,
        "ranks": [each.rank for each in found],
        "others": others,
        "sent": sent and bool(found),
    }
