"""First process of a container that fanout creates: it reaps, and ends the container when no other process is left in it.

Its argument is for how many seconds the container must be empty. A SIGTERM ends it at once. The engine gets this text as
an argument, so it is no part of the agent.
"""

import os
import signal
import sys
import time

STEP_SECONDS = 0.5  # between two looks


def hold_container(seconds: float) -> None:
    """Wait until nothing else has run for ``seconds``. The steps are counted, so a paused container loses no time."""
    own = {1, os.getpid()}  # an init of the engine may be the first process
    empty = 0.0
    while empty < seconds:
        time.sleep(STEP_SECONDS)
        reap_children()
        others = [name for name in os.listdir("/proc") if name.isdigit() and int(name) not in own]
        empty = 0.0 if others else empty + STEP_SECONDS


def reap_children() -> None:
    """Remove ended processes from the process table: orphans become children of the first process."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except OSError:
        pass  # there is no child


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))  # the first process ignores it otherwise
    hold_container(float(sys.argv[1]))
