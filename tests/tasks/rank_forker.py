"""A process that has imported what the tasks import, and forks ranks of them at a sixth of an interpreter's price.

Started with a socket as its standard input. A request is one line of JSON, the answer too: ``{"start": [SCRIPT,
ARGUMENT, …], "environment": {…}}`` with one descriptor for the rank's output is answered by its pid, ``{"wait": PID}``
by its exit code. When the socket closes, all ranks that are left are killed.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import sys
import traceback
from typing import Any

import torch._dynamo  # the optimizer imports it at its first step
import train_llada2_bd

IMPORTED = (torch._dynamo, train_llada2_bd)


def main() -> None:
    """Answers requests until the other end closes."""
    ours = socket.socket(fileno=0)
    alive: set[int] = set()
    while (received := receive(ours)) is not None:
        request, output = received
        if "start" in request:
            answer = fork(ours, output, request["start"], request["environment"])
            alive.add(answer)
        else:
            _, status = os.waitpid(request["wait"], 0)
            alive.remove(request["wait"])
            answer = os.waitstatus_to_exitcode(status)
        ours.sendall(json.dumps(answer).encode() + b"\n")
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os._exit(0)  # taking torch down in order takes a second


def receive(ours: socket.socket) -> tuple[dict[str, Any], int] | None:
    """Return the next request and its descriptor (-1 without one)."""
    line, output = b"", -1
    while not line.endswith(b"\n"):
        part, descriptors, _, _ = socket.recv_fds(ours, 1 << 16, 1)
        if not part:
            return None
        line, output = line + part, (*descriptors, output)[0]
    return json.loads(line), output


def fork(ours: socket.socket, output: int, argv: list[str], environment: dict[str, str]) -> int:
    """Fork a child that runs a script as a new interpreter would; return its pid."""
    pid = os.fork()
    if pid:
        os.close(output)
        return pid
    code: Any = 1
    try:
        ours.close()
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.close(output)
        os.environ.update(environment)
        sys.argv, sys.path[:0] = argv, environment.get("PYTHONPATH", "").split(":")
        runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001  # what an interpreter prints of anything
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code or 0)


if __name__ == "__main__":
    main()
