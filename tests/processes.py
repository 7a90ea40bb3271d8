"""Ends a process that a test started. Every wait has a limit: a process that stays is an error, and is named."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.lab.ns import wait_until

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
def hold_process_table(seconds: float = 600.0) -> Iterator[None]:
    """Exclude other tests that leave processes of ended runs on this machine for a moment, or that list such processes."""
    with (Path(tempfile.gettempdir()) / f"process-table-of-tests-{os.getuid()}.lock").open("w") as file:
        wait_until(lambda: _lock_file(file.fileno()), seconds, "the end of a test that leaves or lists processes")
        yield


def _lock_file(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
