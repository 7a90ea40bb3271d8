"""Linux namespaces, as much as the lab needs: start a process inside, see who lives there, wait until they are gone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_NEW_PID = 0x20000000
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab could not do what a test requested."""


def find_tool(name: str) -> str:
    """Return the full path of a program, also from directories that only root searches."""
    found = shutil.which(name, path=f"{SEARCH_PATH}:{os.environ.get('PATH', '')}")
    if found is None:
        raise LabError(f"{name} is not installed")
    return found


def is_installed(name: str) -> bool:
    try:
        return bool(find_tool(name))
    except LabError:
        return False


def _check_result(result: int, doing: str) -> None:
    if result < 0:
        raise LabError(f"{doing}: {os.strerror(ctypes.get_errno())}")


@contextlib.contextmanager
def children_born_in(pid: int | None) -> Iterator[None]:
    """Children started in this block, by this thread, live in the pid namespace of ``pid``, or found a new one (None).

    They stay direct children, so that their pid, signals and exit status are exact: no helper stands between.
    """
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if pid is None:
            _check_result(_libc.unshare(_NEW_PID), "new pid namespace")
        else:
            there = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _check_result(_libc.setns(there, _NEW_PID), f"enter the pid namespace of {pid}")
            finally:
                os.close(there)
        try:
            yield
        finally:
            _check_result(_libc.setns(home, _NEW_PID), "return from the pid namespace")
    finally:
        os.close(home)


def build_enter_command(pid: int, argv: Sequence[str], *, uid: int, cwd: str) -> list[str]:
    """Return the command line that becomes ``argv`` inside the other namespaces of ``pid``, by exec alone.

    A shell starts background jobs with SIGINT ignored, and that is inherited: the defaults are put back, or else a test
    of Ctrl-C would pass for the wrong reason.
    """
    enter = [
        find_tool("nsenter"),
        f"--target={pid}",
        "--mount",
        "--uts",
        "--ipc",
        "--net",
        f"--setuid={uid}",
        f"--setgid={uid}",
    ]
    return [*enter, "--", "env", "--default-signal=INT,QUIT", f"--chdir={cwd}", "--", *argv]


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process as seen from outside its machine; ``inner`` is the pid that it has inside."""

    pid: int
    inner: int
    parent: int
    uid: int
    state: str
    started: int
    exe: str
    argv: tuple[str, ...]

    @property
    def is_sshd(self) -> bool:
        return os.path.basename(self.exe).startswith("sshd")

    def __str__(self) -> str:
        return f"pid {self.inner} uid {self.uid} state {self.state}: {' '.join(self.argv) or self.exe or '?'}"


def read_namespace(pid: int | str, kind: str) -> int:
    """Return the number of a namespace."""
    return os.stat(f"/proc/{pid}/ns/{kind}").st_ino


def own_namespaces() -> set[int]:
    return {read_namespace("self", kind) for kind in ("pid", "net", "mnt")}


def start_time(pid: int) -> int:
    """Return the start time, which identifies a process together with its pid; raise FileNotFoundError without one."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[19])


def _read_process(pid: int) -> Process:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        status = {key: value.split() for key, _, value in (line.partition(":") for line in file)}
    with open(f"/proc/{pid}/cmdline", "rb") as raw:
        argv = tuple(part.decode(errors="replace") for part in raw.read().rstrip(b"\0").split(b"\0") if part)
    exe = ""
    with contextlib.suppress(OSError):  # what has ended, or is about to, has none
        exe = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    return Process(
        pid=pid,
        inner=int(status["NSpid"][-1]),
        parent=int(status["PPid"][0]),
        uid=int(status["Uid"][0]),
        state=status["State"][0],
        started=start_time(pid),
        exe=exe,
        argv=argv,
    )


def list_inhabitants(namespaces: Collection[int], kinds: Sequence[str] = ("pid",)) -> list[Process]:
    """Return every live process in those namespaces: no zombie, and none that has already freed its memory."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # gone by now, or never ours
            if any(read_namespace(name, kind) in namespaces for kind in kinds):
                found.append(_read_process(int(name)))
    return [process for process in found if process.exe and process.state not in "ZX"]


@contextlib.contextmanager
def hold_namespaces(pids: Iterable[int], kinds: Sequence[str] = ("pid", "net", "mnt")) -> Iterator[set[int]]:
    """Hold the numbers of their namespaces: the kernel does not reuse them until the block ends. One that ended has none."""
    with contextlib.ExitStack() as stack:
        found = set()
        for path in (f"/proc/{pid}/ns/{kind}" for pid in pids for kind in kinds):
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, fd)
                found.add(os.fstat(fd).st_ino)
        yield found


def signal_all(processes: Iterable[Process], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def wait_gone(pids: Iterable[int], timeout: float) -> bool:
    """Wait for the processes to end, as an event; False where one is still there."""
    poll, waiting = select.poll(), set()
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                waiting.add(fd)
                poll.register(fd, select.POLLIN)
        deadline = time.monotonic() + timeout
        while waiting:
            ended = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ended:
                return False
            for fd, _ in ended:
                poll.unregister(fd)
                waiting.discard(fd)
                os.close(fd)
        return True
    finally:
        for fd in waiting:
            os.close(fd)


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Poll for a condition about which the kernel sends no event, less often the longer it takes."""
    deadline, pause = time.monotonic() + timeout, 0.001
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not after {timeout:g} s")
        time.sleep(pause)
        pause = min(0.02, pause * 1.2)
