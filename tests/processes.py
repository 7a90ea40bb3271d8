"""Ends a process that a test started. No wait has no limit: a process that stays is an error, and is named."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from typing import Any

SECONDS = 20.0


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
