"""A host for sweeps of thousands of runs: one warm process that forks an agent for every connection.

The login shell and the loading of the agent are left out (the lab has them); everything from READY on is the real
thing: the same modules, a keeper of its own for every run, real scripts. A connection begins with the nonce and the
number of a trap (see ``crash``), 0 for none.

    python -m tests.sweeps.host SOCKET [traps]
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
from types import ModuleType

from fanout.agent import bundle
from tests.sweeps import crash


def _load_modules(traps: bool) -> ModuleType:
    """Import the relay, and through it everything that it can ever import."""
    if traps:
        return crash.load_agent()
    for name in bundle.MODULES:
        importlib.import_module(f"fanout.agent.{name}")
    return importlib.import_module("fanout.agent.relay")


def _read_exactly(count: int) -> bytes:
    data = b""
    while len(data) < count:
        some = os.read(0, count - len(data))
        if not some:
            os._exit(3)
        data += some
    return data


def _serve_connection(connection: socket.socket, relay: ModuleType) -> None:
    """Serve as the constant command does on a host."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(connection.fileno(), 0)
    os.dup2(connection.fileno(), 1)
    connection.close()
    nonce = _read_exactly(16).decode()
    trap = int(_read_exactly(8))
    major, minor = sys.version_info[:2]
    os.write(1, f"\n@{nonce} READY {major}.{minor}\n".encode())
    _read_exactly(int.from_bytes(_read_exactly(4), "big"))
    crash.armed = trap
    relay.main()


def main(path: str, *traps: str) -> None:
    """Serve until killed."""
    relay = _load_modules(bool(traps))
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    os.write(1, b"ready\n")
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            try:
                _serve_connection(connection, relay)
            finally:
                os._exit(1)
        connection.close()
        _reap_children()


def _reap_children() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
