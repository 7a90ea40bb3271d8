"""Rank processes: the ranks of a run as /proc shows them, and the files to which they and their launchers write.

A rank has RANK or an equivalent variable in its environment. Other processes of the run are launchers: train.sh, torchrun,
accelerate. The helpers that a rank starts are neither: only if a shell is the rank, its children count as the rank too.
A path may be of another mount namespace, or of a deleted file, so a file is known by device and inode.
"""

from __future__ import annotations

import ctypes
import os
import re
import stat
import struct

from . import processes
from .spawn import LIBC

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Iterator

RANK_VARIABLES = (b"RANK", b"OMPI_COMM_WORLD_RANK", b"PMI_RANK")  # torchrun and DeepSpeed, Open MPI, MPICH
SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "fish", "busybox")
TORCH_FILE = re.compile(
    r"/attempt_(\d{1,9})/(\d{1,9})/std(out|err)\.log(?: \(deleted\))?$"
)  # torch/distributed/elastic
AT_EMPTY_PATH, STATX_BTIME = 0x1000, 0x800  # linux/fcntl.h, linux/stat.h


class OpenFile:
    """A regular file to which a process of the run writes."""

    def __init__(self, path: str, link: str, seen: os.stat_result, appends: bool) -> None:
        self.path = path  # where it was opened, in the namespace of its process; " (deleted)" may follow
        self.link = link  # the entry in /proc, through which it can be opened
        self.key = (seen.st_dev, seen.st_ino)
        self.appends = appends


class RunProcess:
    """A process of the run: its parent, and its rank or None."""

    def __init__(self, pid: int, parent: int, rank: int | None, local: int | None) -> None:
        self.pid = pid
        self.parent = parent
        self.rank = rank
        self.local = local

    @property
    def is_rank(self) -> bool:
        """Return whether the process is a rank. Lightning gives its ranks LOCAL_RANK only."""
        return self.rank is not None or self.local is not None

    @property
    def is_shell(self) -> bool:
        """Return whether the process is a shell, for example a script around the rank."""
        try:
            return os.path.basename(os.readlink("/proc/%d/exe" % self.pid)) in SHELLS
        except OSError:
            return False

    def find_outputs(self) -> list:
        """Return (descriptor, OpenFile or None) of stdout and stderr."""
        return [(number, _read_descriptor(self.pid, number)) for number in (1, 2)]

    def find_torch_files(self) -> list:
        """Return the rank files of torchrun that this process has open for writing."""
        try:
            numbers = [int(name) for name in os.listdir("/proc/%d/fd" % self.pid)]
        except OSError:
            return []
        found = []
        for number in numbers:
            try:
                target = os.readlink("/proc/%d/fd/%d" % (self.pid, number))
            except OSError:
                continue
            file = _read_descriptor(self.pid, number) if TORCH_FILE.search(target) else None
            if file is not None:
                found.append(file)
        return found


def _read_descriptor(pid: int, number: int) -> OpenFile | None:
    """Return the regular file that is open for writing as this descriptor; None if it is something else."""
    link = "/proc/%d/fd/%d" % (pid, number)
    try:
        target, seen = os.readlink(link), os.stat(link)
        if not stat.S_ISREG(seen.st_mode):
            return None
        flags = _read_flags(pid, number)
    except (OSError, ValueError):
        return None
    return OpenFile(target, link, seen, bool(flags & os.O_APPEND)) if flags & os.O_ACCMODE != os.O_RDONLY else None


def _read_flags(pid: int, number: int) -> int:
    """Return the open flags of a descriptor. Raises OSError and ValueError."""
    with open("/proc/%d/fdinfo/%d" % (pid, number), "rb") as file:
        values = dict(line.split(None, 1) for line in file.read().splitlines() if b":" in line)
    return int(values.get(b"flags:", b"0"), 8)


def iter_processes(root: int) -> Iterator:
    """Yield the launchers and ranks below ``root``, parents before children."""
    children = processes.get_children_lookup()
    queue = [(child, root) for child in children(root)]
    while queue:
        pid, parent = queue.pop(0)
        process = _read_process(pid, parent)
        if process is not None:
            yield process
            if not process.is_rank or process.is_shell:
                queue += [(child, pid) for child in children(pid)]


def _read_process(pid: int, parent: int) -> RunProcess | None:
    try:
        env = processes.read_variables(pid)
    except OSError:
        return None
    ranks = [_parse_number(env.get(name, b"")) for name in RANK_VARIABLES]
    rank = next((rank for rank in ranks if rank is not None), None)
    return RunProcess(pid, parent, rank, _parse_number(env.get(b"LOCAL_RANK", b"")))


def _parse_number(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) < 10 else None


def read_birth(descriptor: int) -> float:
    """Return when the file was created, in seconds since 1970; 0.0 if the file system does not record it."""
    buffer = ctypes.create_string_buffer(256)
    try:
        failed = LIBC.statx(descriptor, b"", AT_EMPTY_PATH, STATX_BTIME, buffer)
    except AttributeError:  # a libc before glibc 2.28
        return 0.0
    if failed or not struct.unpack_from("I", buffer, 0)[0] & STATX_BTIME:
        return 0.0
    seconds, nanoseconds = struct.unpack_from("qI", buffer, 80)  # stx_btime
    return float(seconds + nanoseconds / 1e9)
