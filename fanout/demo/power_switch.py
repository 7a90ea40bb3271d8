"""Power switch of the demo: when a rank asks for it, the demo disconnects the host of the rank, as if its network failed."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from fanout.demo.ssh_server import DemoServer

_LONGEST = 256  # bytes of a host name


class PowerSwitch:
    """Named pipe that takes the name of a host; a thread of its own then disconnects that host."""

    def __init__(self, path: Path, servers: Mapping[str, DemoServer]) -> None:
        self._path = path
        self._servers = servers
        self._thread = threading.Thread(target=self._wait_for_requests, name="demo-power-switch", daemon=True)

    def __enter__(self) -> PowerSwitch:
        os.mkfifo(self._path, 0o600)
        self._requests = os.open(
            self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
        )  # O_RDWR: a rank is never the only end
        self._ending, self._end = os.pipe()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.write(self._end, b".")
        self._thread.join()
        for descriptor in (self._requests, self._ending, self._end):
            os.close(descriptor)

    def _wait_for_requests(self) -> None:
        poller = select.poll()
        for descriptor in (self._requests, self._ending):
            poller.register(descriptor, select.POLLIN)
        while self._ending not in dict(poller.poll()):
            server = self._servers.get(os.read(self._requests, _LONGEST).decode(errors="replace"))
            if server is not None:
                server.close()
