"""Did the kernel kill a process of this run for memory? Proved by the process's pid or by its own control group.

The kernel log names each victim, where this user may read it. A control group counts its own victims; a group that all
processes of the machine share proves nothing. /proc/vmstat counts the whole machine, so it would blame a run for any
process of any user. It counts only where the log cannot be read, for a script that died of KILL in the same seconds.
"""

from __future__ import annotations

import os
import re
import time

from . import procs

FIRST_SECONDS, LAST_SECONDS = 0.5, 10.0  # between two looks at the run's processes
MOST_PIDS = 1 << 16
RECENT_SECONDS = 4.0  # a large process takes a while to end
_VICTIM = re.compile(rb"Killed process (\d+)|oom-kill:.*\bpid=(\d+)")
_FIRST_PID_NAMESPACE = "pid:[4026531836]"  # include/linux/proc_ns.h: the kernel log has the pids of this one


class OomWatch:
    """The processes of a run, their control groups, and the kernel's log since the run began."""

    def __init__(self) -> None:
        self._log = KernelLog()
        self._pids: set = set()
        self._counters: dict = {}  # file -> how many it had counted when a process of the run was first seen in it
        self._machine = [(time.monotonic(), kills("/proc/vmstat"))]  # of the last seconds
        self._mounts = mounts()
        self._pause = FIRST_SECONDS
        self._next = 0.0

    @property
    def wait(self) -> float:
        """Seconds until the next look."""
        return max(0.0, self._next - time.monotonic())

    def look(self, keeper: int) -> None:
        """Note the processes below the keeper, now and then."""
        if time.monotonic() - self._machine[-1][0] > RECENT_SECONDS / 4:
            self._machine = [*self._machine[-3:], (time.monotonic(), kills("/proc/vmstat"))]
        if self.wait:
            return
        self._next = time.monotonic() + self._pause
        self._pause = min(self._pause * 1.5, LAST_SECONDS)
        self._log.read()
        for pid in [keeper, *procs.descendants(keeper)]:
            if len(self._pids) < MOST_PIDS:
                self._pids.add(pid)
            for file in counters(pid, self._mounts):  # each time: a process may be moved to another group
                if file not in self._counters:
                    self._counters[file] = kills(file)

    def note_end(self, pid: int) -> None:
        """Note the control groups that an ended process of the run was in, before its parent collects it.

        It was moved there after the last look if the group is new to us: all that the group has counted happened since.
        """
        self._pids.add(pid)
        for file in counters(pid, self._mounts):
            self._counters.setdefault(file, 0)

    def killed(self, by_kill: bool) -> bool:
        """Return whether there is proof of a victim in this run. ``by_kill``: the script itself ended by KILL, or 137."""
        if any(kills(file) > had for file, had in self._counters.items()):
            return True
        named = self._log.read()
        if named is not None:
            return not named.isdisjoint(self._pids)
        return by_kill and kills("/proc/vmstat") > self._machine[0][1]


class KernelLog:
    """The victims that the kernel log names, from now on; None where it cannot be read, or names pids of elsewhere."""

    def __init__(self) -> None:
        self._victims: set = set()
        self._file = -1
        try:
            if os.readlink("/proc/self/ns/pid") == _FIRST_PID_NAMESPACE:
                self._file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                os.lseek(self._file, 0, os.SEEK_END)
                os.read(self._file, 8192)
        except BlockingIOError:
            pass  # it can be read, and is at its end
        except OSError:
            self.close()

    def read(self) -> set | None:
        """Return all victims so far."""
        while self._file >= 0:
            try:
                self._victims.update(victims(os.read(self._file, 8192)))
            except BrokenPipeError:
                continue  # records were overwritten before we came to them
            except BlockingIOError:
                return self._victims
            except OSError:
                self.close()
        return None

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def victims(record: bytes) -> list:
    """Return the pids that a record of the kernel log says were killed for memory."""
    return [int(first or second) for first, second in _VICTIM.findall(record)]


def mounts() -> list:
    """Return (kind, root, directory) of each mounted hierarchy of control groups that accounts for memory."""
    found = []
    for line in procs.read_text("/proc/self/mountinfo", 1 << 20).splitlines():
        words, dash, rest = line.partition(" - ")
        fields, kind = words.split(), rest.split()
        if not dash or len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2" or (kind[0] == "cgroup" and "memory" in kind[2].split(",")):
            found.append((kind[0], fields[3], fields[4]))
    return found


def counters(pid: int, mounted: list) -> list:
    """Return the files that count the memory victims of the control groups that the process is in."""
    found = []
    for line in procs.read_text("/proc/%d/cgroup" % pid, 1 << 16).splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        kind = "cgroup2" if number == "0" else "cgroup"
        if kind == "cgroup" and "memory" not in names.split(","):
            continue
        for mounted_kind, root, directory in mounted:
            if mounted_kind == kind:
                below = os.path.join(directory, os.path.relpath(path, root) if path.startswith(root) else "")
                name = "memory.events" if kind == "cgroup2" else "memory.oom_control"
                # only the root of the machine has a release_agent: every process without a group of its own is in it
                if not os.path.exists(os.path.join(below, "release_agent")):
                    found.append(os.path.normpath(os.path.join(below, name)))
    return [file for file in found if os.path.exists(file)]


def kills(file: str) -> int:
    """Return how many victims the control group has counted; 0 where that cannot be read."""
    for line in procs.read_text(file, 1 << 14).splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.isdigit():
            return int(value)
    return 0
