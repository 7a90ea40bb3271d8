"""Whether this host has come to the rendezvous: does its tree hold a socket on MASTER_PORT, or at least run torchrun?

torchrun says nothing for ten minutes and more when one host is missing. What can be seen without its help are sockets:
the first host listens on the port, the others are connected to it, and stay so for the whole run.
"""

from __future__ import annotations

import os
import time

from . import procs

FIRST_SECONDS, LAST_SECONDS = 0.5, 10.0
LISTENS, CONNECTED = "0A", "01"  # include/net/tcp_states.h


class Joining:
    """Looks less and less often, until there is nothing more to be found."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._pause = FIRST_SECONDS
        self._next = time.monotonic() + FIRST_SECONDS
        self.how = ""

    @property
    def wait(self) -> float:
        """Seconds until the next look."""
        return max(0.0, self._next - time.monotonic())

    @property
    def over(self) -> bool:
        return self.how == "joined"

    def look(self, keeper: int) -> str:
        """What is new: ``waiting`` (torchrun is up), ``joined``; "" for nothing."""
        if self.over or self.wait:
            return ""
        self._pause = min(self._pause * 1.3, LAST_SECONDS)
        self._next = time.monotonic() + self._pause
        below = procs.descendants(keeper)
        how = self.how
        if self._joined(below):
            how = "joined"
        elif not how and any(_is_torchrun(pid) for pid in below):
            how = "waiting"
        new, self.how = (how if how != self.how else ""), how
        return new

    def _joined(self, pids: list) -> bool:
        """The kernel walks its table of all connections for whoever asks: nobody does who has none."""
        ours = set().union(*map(held, pids))
        return bool(ours) and not ours.isdisjoint(sockets(self._port, connected=True))


def sockets(port: int, *, connected: bool = False) -> set:
    """Sockets of this host that listen on the port; with ``connected`` also those that go to that port of any host."""
    wanted = "%04X" % port
    found = set()
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(name) as file:
                rows = [line.split() for line in file][1:]
        except OSError:
            continue
        for row in rows:
            here, there, state = row[1].rpartition(":")[2], row[2].rpartition(":")[2], row[3]
            if (state == LISTENS and here == wanted) or (connected and state == CONNECTED and there == wanted):
                found.add("socket:[%s]" % row[9])
    return found


def held(pid: int) -> set:
    """The sockets that a process has."""
    directory = "/proc/%d/fd" % pid
    found = set()
    try:
        for name in os.listdir(directory):
            try:
                found.add(os.readlink(os.path.join(directory, name)))
            except OSError:
                continue  # closed since
    except OSError:
        pass  # ended, or not ours
    return {link for link in found if link.startswith("socket:")}


def _is_torchrun(pid: int) -> bool:
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            words = file.read(4096).split(b"\0")
    except OSError:
        return False
    return any(os.path.basename(word) == b"torchrun" for word in words[:3]) or b"torch.distributed.run" in words[:6]
