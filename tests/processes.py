"""Ends a process that a test started. Every wait has a limit: a process that stays is an error, and is named."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.skips import skip

SECONDS = 20.0
Child = TypeVar("Child", bound=subprocess.Popen[Any])


def end_process(child: subprocess.Popen[Any], *, seconds: float = SECONDS, kill: bool = False) -> None:
    """End the process by SIGTERM, then by SIGKILL, and close its pipes. Raises TimeoutExpired if it stays."""
    try:
        if not kill:
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(seconds)
        child.kill()
        child.wait(seconds)
    finally:
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):  # the rest of what it was to read
                    pipe.close()


def join_threads(*threads: threading.Thread, seconds: float = SECONDS) -> None:
    """Wait for the threads. Raises AssertionError for one that goes on."""
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive(), f"{thread.name} does not end"


@contextlib.contextmanager
def hold_process(child: Child, *, kill: bool = True, seconds: float = SECONDS) -> Iterator[Child]:
    """Yield the process, and end it with the block, also after an error.

    ``with Popen`` waits without a limit, and after its time limit a test gets no second one.
    """
    try:
        yield child
    finally:
        end_process(child, kill=kill, seconds=seconds)


def reap_child(pid: int, *, seconds: float = SECONDS) -> int:
    """Wait until a forked child has exited; return its exit status. Raises AssertionError for one that stays."""
    statuses: list[int] = []
    waiting = threading.Thread(target=lambda: statuses.append(os.waitpid(pid, 0)[1]), daemon=True, name=f"pid {pid}")
    waiting.start()
    join_threads(waiting, seconds=seconds)
    return os.waitstatus_to_exitcode(statuses[0])


@contextlib.contextmanager
def open_namespaces(*program: str) -> Iterator[tuple[str, ...]]:
    """Run ``program`` where no process and no port of another test exists, until its stdin is closed.

    It calls ``start_loopback``, and prints a line when it is ready. Yields the words that start a command beside it. At
    the end the kernel kills all that is left. Skips the test if this machine allows no such namespaces.
    """
    own_user = () if os.getuid() == 0 else ("--user", "--map-current-user")
    reaper = ("bash", "-c", '"$@"; exit', "bash")  # pid 1 of a namespace inherits its orphans
    command = ("unshare", *own_user, "--pid", "--net", "--fork", "--kill-child", "--mount-proc", *reaper, *program)
    with hold_process(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        if not child.stdout.readline():
            skip("namespaces", f"{command[0]} ended with status {child.wait(SECONDS)}")
        first = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()[0]
        entered = ("--user", "--preserve-credentials") if own_user else ()
        yield ("nsenter", "--target", first, *entered, "--pid", "--net", "--mount", "--wd=.")
        child.stdin.close()
        child.wait(SECONDS)


def start_loopback() -> None:
    """Enable the loopback interface of a new network namespace. Raises OSError. Source: linux/sockios.h, linux/if.h."""
    set_flags, up = 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, set_flags, struct.pack("16sh", b"lo", up))
