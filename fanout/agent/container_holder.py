"""First process of a container that fanout creates: it reaps, and ends the container when no other process is left in it.

Its arguments are for how many seconds the container must be empty, and the pids that do not count. A SIGTERM ends it at
once. The engine gets this text as an argument, so it is no part of the agent. With apptainer it is not the first process:
the shell that started it stops the instance when it ends.
"""

import os
import signal
import sys
import time

STEP_SECONDS = 0.5  # between two looks


def hold_container(seconds: float, others: "list[str]") -> None:
    """Wait until nothing else has run for ``seconds``. The steps are counted, so a paused container loses no time.

    ``others`` are the pids of the processes that the engine or the image started.
    """
    own = {1, os.getpid(), *map(int, others)}  # an init of the engine may be the first process
    empty = 0.0
    while empty < seconds:
        time.sleep(STEP_SECONDS)
        reap_children()
        found = [name for name in os.listdir("/proc") if name.isdigit() and int(name) not in own]
        empty = 0.0 if found else empty + STEP_SECONDS


def reap_children() -> None:
    """Remove ended processes from the process table: orphans become children of the first process."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except OSError:
        pass  # there is no child


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))  # the first process ignores it otherwise
    hold_container(float(sys.argv[1]), sys.argv[2:])
