"""A TCP relay in front of a real sshd whose first connection ends after exactly N bytes in one direction."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.processes import join_threads

PIECE = 1 << 14


class Cutter:
    """``way`` is "in" (from the host) or "out"; ``passed`` counts the bytes of the first connection."""

    def __init__(self, target: int, way: str, after: int) -> None:
        self._target = target
        self._way, self._after = way, after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.passed = {"in": 0, "out": 0}
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start_thread(self._accept_connections)

    def _start_thread(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept_connections(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets.append(server)
            except OSError:
                return
            self.connections += 1
            first = self.connections == 1
            for way, source, target in (("in", server, client), ("out", client, server)):
                self._start_thread(self._pass_bytes, way, source, target, first)

    def _pass_bytes(self, way: str, source: socket.socket, target: socket.socket, first: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                if first:
                    left = self._after - self.passed[way] if way == self._way else len(data)
                    data = data[:left]
                    self.passed[way] += len(data)
                target.sendall(data)
                if first and way == self._way and self.passed[way] >= self._after:
                    break
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for end in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        join_threads(*self._threads)
        for end in (self._listener, *self._sockets):
            end.close()


@contextmanager
def open_cutter(target: int, way: str = "in", after: int = 1 << 40) -> Iterator[Cutter]:
    made = Cutter(target, way, after)
    try:
        yield made
    finally:
        made.close()
