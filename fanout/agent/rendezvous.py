"""Rendezvous detection: reports whether torchrun is up, has reached MASTER_PORT, or cannot resolve a name.

If one host is missing, torchrun logs nothing for ten minutes and more. Its sockets can be seen without its help. The
first host listens on the port; the others are connected to it for the whole run. A single host has no such port: it has
joined when its ranks are up. If MASTER_ADDR does not resolve, torchrun and its ranks retry for 15 minutes. torch then
logs only that, and no rank is connected to the MASTER_PORT in its environment.
"""

from __future__ import annotations

import os
import time

from . import processes, run_files

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Iterator

FIRST_SECONDS, LAST_SECONDS = 0.5, 10.0
RANKS_SECONDS = 1200.0  # torch itself gives up after 15 minutes
LISTENS, CONNECTED, CONNECTING = "0A", "01", "02"  # include/net/tcp_states.h
UNRESOLVED = b"cannot be retrieved (gai error"  # torch/csrc/distributed/c10d/socket.cpp
TAIL_BYTES = 4096


class RendezvousWatch:
    """Rendezvous watch with growing pauses, until the result is final. ``port`` 0: the run has one host."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._pause = FIRST_SECONDS
        self._next = time.monotonic() + FIRST_SECONDS
        self._ranks_until = 0.0
        self.over = False
        self.how = ""

    @property
    def seconds_until_check(self) -> float:
        """Return the seconds until the next check."""
        return max(0.0, self._next - time.monotonic())

    def check(self, keeper: int, directory: str) -> str:
        """Return the new stage: ``waiting``, ``joined``, ``unresolved`` (see events.Joined); "" if it did not change.

        ``directory`` is the run's. Its logs are read only if there are ranks that have not reached their store.
        """
        if self.over or self.seconds_until_check:
            return ""
        self._pause = min(self._pause * 1.3, LAST_SECONDS)
        self._next = time.monotonic() + self._pause
        how = self._find_stage(processes.watch_descendants(keeper), directory)
        new, self.how = (how if how != self.how else ""), how
        return new

    def _find_stage(self, below: list, directory: str) -> str:
        ranks = {pid: port for pid, port in ((pid, _read_master_port(pid)) for pid in below) if port}
        if ranks:
            return self._find_stage_of_ranks(ranks, directory)
        if self.how == "joined":
            return self.how
        if self._port and _has_any_socket(below, find_port_sockets(self._port, connected=True)):
            return "joined"
        torchruns = [pid for pid in below if _is_torchrun(pid)]
        if torchruns and _is_unresolved(run_files.stream_path(directory, 0)):
            return "unresolved"
        if torchruns and (
            self._port or _has_any_socket(torchruns, find_tcp_sockets())
        ):  # single host: may still import torch
            return "waiting"
        return "waiting" if self.how else ""

    def _find_stage_of_ranks(self, ranks: dict, directory: str) -> str:
        """Return the stage when ranks are up: torchrun has found all hosts, but the store may be unreachable."""
        self._ranks_until = self._ranks_until or time.monotonic() + RANKS_SECONDS
        met = any(_has_any_socket([pid], find_port_sockets(port, connected=True)) for pid, port in ranks.items())
        self.over = met or time.monotonic() > self._ranks_until
        return "unresolved" if not self.over and any(map(_is_unresolved, _list_logs(directory))) else "joined"


def find_port_sockets(port: int, *, connected: bool = False) -> set:
    """Return this host's sockets that listen on the port; with ``connected`` also those connected to that port of any
    host."""
    wanted = "%04X" % port
    return {
        link
        for here, there, state, link in _iter_tcp_sockets()
        if (state == LISTENS and here == wanted) or (connected and state == CONNECTED and there == wanted)
    }


def find_tcp_sockets() -> set:
    """Return the TCP sockets of this host that listen, are connected, or try to connect."""
    return {link for _, _, state, link in _iter_tcp_sockets() if state in (LISTENS, CONNECTED, CONNECTING)}


def _iter_tcp_sockets() -> Iterator:
    """Yield (own port, other port, state, link in /proc/PID/fd) of every TCP socket of this host."""
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(name) as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        for row in rows:
            yield row[1].rpartition(":")[2], row[2].rpartition(":")[2], row[3], "socket:[%s]" % row[9]


def list_sockets(pid: int) -> set:
    """Return the sockets that a process holds."""
    directory = "/proc/%d/fd" % pid
    found = set()
    try:
        for name in os.listdir(directory):
            try:
                found.add(os.readlink(os.path.join(directory, name)))
            except OSError:
                continue  # closed meanwhile
    except OSError:
        pass  # it has ended, or belongs to another user
    return {link for link in found if link.startswith("socket:")}


def _has_any_socket(pids: list, links: set) -> bool:
    return any(not links.isdisjoint(list_sockets(pid)) for pid in pids) if links else False


def _read_master_port(pid: int) -> int:
    """Return the MASTER_PORT of a process that torchrun started; 0 for any other."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            env = dict(entry.partition(b"=")[::2] for entry in file.read().split(b"\0"))
        return int(env[b"MASTER_PORT"]) if b"LOCAL_RANK" in env else 0
    except (OSError, KeyError, ValueError):
        return 0


def _list_logs(directory: str) -> list:
    """Return the paths of a run's log: the shared stream, and one per rank that has its own."""
    from . import rank_logs  # hosts that do not need it do not compile it

    return [run_files.stream_path(directory, 0), *(path for _, path in rank_logs.read_streams(directory).values())]


def _is_unresolved(path: str) -> bool:
    """Return whether the last line of a log is torch's resolver error: a stuck rank logs nothing else."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return UNRESOLVED in file.read().rstrip().rpartition(b"\n")[2]
    except OSError:
        return False


def _is_torchrun(pid: int) -> bool:
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            words = file.read(4096).split(b"\0")
    except OSError:
        return False
    return any(os.path.basename(word) == b"torchrun" for word in words[:3]) or b"torch.distributed.run" in words[:6]
