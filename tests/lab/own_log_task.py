"""Run a training task, and write what the rank prints to a file of its own: ``own_log_task.py TASK [ARG…]``.

A line goes to the real stdout first. So the record of the launcher may have one line more than the file, never less.
Each rank also prints a numbered line 20 times a second, and writes a line with the time to ``marks``.
"""

import io
import os
import runpy
import sys
import threading
import time

BEAT_SECONDS = 0.05
attempt, rank, host = os.environ["FANOUT_ATTEMPT"], os.environ["RANK"], os.uname().nodename


class OwnLog(io.RawIOBase):
    """Standard output that is copied to ``own/ATTEMPT.RANK.HOST``."""

    def __init__(self) -> None:
        os.makedirs("own", exist_ok=True)
        self._own = os.open(f"own/{attempt}.{rank}.{host}", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._lock = threading.Lock()
        self.writable = lambda: True  # type: ignore[method-assign]  # io.BufferedWriter asks

    def write(self, data: bytes) -> int:  # type: ignore[override]
        with self._lock:
            left = memoryview(data)
            while left:
                count = os.write(1, left)
                os.write(self._own, left[:count])
                left = left[count:]
        return len(data)


def write_mark(what: str) -> None:
    with open("marks", "a") as file:
        file.write(f"{what} {attempt} {rank} {host} {time.monotonic():.3f}\n")


def print_beats(log: OwnLog) -> None:
    """Print lines until the process ends."""
    number = 0
    while True:
        number += 1
        log.write(f"beat {number} of rank {rank} at {time.monotonic():.3f}\n".encode())
        write_mark("beat")
        time.sleep(BEAT_SECONDS)


if __name__ == "__main__":
    write_mark("start")
    log = OwnLog()
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(log), line_buffering=True)
    threading.Thread(target=print_beats, args=(log,), daemon=True).start()
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")
