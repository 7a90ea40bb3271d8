"""OOM detection: proves by pid or by control group that the kernel OOM-killed a process of this run.

The kernel log names each victim, if this user may read it. A control group counts its own victims; a group that all
processes of the machine share proves nothing. /proc/vmstat counts the whole machine, so alone it would blame a run for
any user's process. It counts only if the log cannot be read, and only for a script that died of SIGKILL in the same
seconds.
"""

from __future__ import annotations

import os
import re
import time

from . import processes

FIRST_SECONDS, LAST_SECONDS = 0.5, 10.0  # between two scans of the run's processes
MOST_PIDS = 1 << 16
RECENT_SECONDS = 4.0  # a large process takes a while to exit
_VICTIM = re.compile(rb"Killed process (\d+)|oom-kill:.*\bpid=(\d+)")
_FIRST_PID_NAMESPACE = "pid:[4026531836]"  # include/linux/proc_ns.h: the kernel log has the pids of this namespace


class OomWatch:
    """OOM evidence of a run: its processes, their control groups, and the kernel log since the run began."""

    def __init__(self) -> None:
        self._log = KernelLog()
        self._pids: set = set()
        self._counters: dict = {}  # file -> its count when a process of the run was first seen in that group
        self._machine = [(time.monotonic(), count_oom_kills("/proc/vmstat"))]  # counts of the last seconds
        self._mounts = mounts()
        self._pause = FIRST_SECONDS
        self._next = 0.0

    @property
    def seconds_until_scan(self) -> float:
        """Return the seconds until the next scan."""
        return max(0.0, self._next - time.monotonic())

    def scan(self, keeper: int) -> None:
        """Record the processes below the keeper and their control groups, if a scan is due."""
        if time.monotonic() - self._machine[-1][0] > RECENT_SECONDS / 4:
            self._machine = [*self._machine[-3:], (time.monotonic(), count_oom_kills("/proc/vmstat"))]
        if self.seconds_until_scan:
            return
        self._next = time.monotonic() + self._pause
        self._pause = min(self._pause * 1.5, LAST_SECONDS)
        self._log.read()
        for pid in [keeper, *processes.watch_descendants(keeper)]:
            if len(self._pids) < MOST_PIDS:
                self._pids.add(pid)
            for file in find_counters(pid, self._mounts):  # on each scan: a process may be moved to another group
                if file not in self._counters:
                    self._counters[file] = count_oom_kills(file)

    def note_end(self, pid: int) -> None:
        """Record the control groups of an ended process of the run, before its parent reaps it.

        If such a group is new, the process was moved there after the last scan. So all that the group has counted
        happened since.
        """
        self._pids.add(pid)
        for file in find_counters(pid, self._mounts):
            self._counters.setdefault(file, 0)

    def was_oom_killed(self, by_kill: bool) -> bool:
        """Return whether a process of this run was provably OOM-killed. ``by_kill``: train.sh died of SIGKILL or exited
        137."""
        if any(count_oom_kills(file) > had for file, had in self._counters.items()):
            return True
        named = self._log.read()
        if named is not None:
            return not named.isdisjoint(self._pids)
        return by_kill and count_oom_kills("/proc/vmstat") > self._machine[0][1]


class KernelLog:
    """The OOM victims that the kernel log names from now on; None if it is unreadable or from another pid namespace."""

    def __init__(self) -> None:
        self._victims: set = set()
        self._file = -1
        try:
            if os.readlink("/proc/self/ns/pid") == _FIRST_PID_NAMESPACE:
                self._file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                os.lseek(self._file, 0, os.SEEK_END)
                os.read(self._file, 8192)
        except BlockingIOError:
            pass  # the log can be read, and the position is at its end
        except OSError:
            self.close()

    def read(self) -> set | None:
        """Return the pids of all victims so far."""
        while self._file >= 0:
            try:
                self._victims.update(parse_victims(os.read(self._file, 8192)))
            except BrokenPipeError:
                continue  # the kernel overwrote records before we read them
            except BlockingIOError:
                return self._victims
            except OSError:
                self.close()
        return None

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def parse_victims(record: bytes) -> list:
    """Return the pids that a record of the kernel log names as OOM-killed."""
    return [int(first or second) for first, second in _VICTIM.findall(record)]


def mounts() -> list:
    """Return (kind, root, directory) of each mounted control group hierarchy that accounts for memory."""
    found = []
    for line in processes.read_text("/proc/self/mountinfo", 1 << 20).splitlines():
        words, dash, rest = line.partition(" - ")
        fields, kind = words.split(), rest.split()
        if not dash or len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] == "cgroup2" or (kind[0] == "cgroup" and "memory" in kind[2].split(",")):
            found.append((kind[0], fields[3], fields[4]))
    return found


def find_counters(pid: int, mounted: list) -> list:
    """Return the files that count the OOM kills of the process's control groups."""
    found = []
    for line in processes.read_text("/proc/%d/cgroup" % pid, 1 << 16).splitlines():
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        kind = "cgroup2" if number == "0" else "cgroup"
        if kind == "cgroup" and "memory" not in names.split(","):
            continue
        for mounted_kind, root, directory in mounted:
            if mounted_kind == kind:
                below = os.path.join(directory, os.path.relpath(path, root) if path.startswith(root) else "")
                name = "memory.events" if kind == "cgroup2" else "memory.oom_control"
                # only the machine's root group has a release_agent: it holds every process without its own group
                if not os.path.exists(os.path.join(below, "release_agent")):
                    found.append(os.path.normpath(os.path.join(below, name)))
    return [file for file in found if os.path.exists(file)]


def count_oom_kills(file: str) -> int:
    """Return the number of OOM kills that the file counts; 0 if it cannot be read."""
    for line in processes.read_text(file, 1 << 14).splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.isdigit():
            return int(value)
    return 0
