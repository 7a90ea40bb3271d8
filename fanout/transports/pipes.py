"""A child process as a Channel: what the local and the openssh transport have in common."""

from __future__ import annotations

import os
import select
import subprocess


class PipeChannel:
    """stdin and stdout of a child; stderr is mixed into stdout."""

    peer = ""

    def __init__(self, argv: list[str], env: dict[str, str] | None = None) -> None:
        self._child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            bufsize=0,
            start_new_session=True,  # a Ctrl-C at the terminal is ours to hear, not the child's
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._in = self._child.stdin
        self._out = self._child.stdout
        self._end_read, self._end_write = os.pipe()
        self._closed = False

    def read(self, timeout: float) -> bytes | None:
        if self._closed:
            return b""
        ready = _ready(timeout, self._out.fileno(), self._end_read, event=select.POLLIN)
        if self._end_read in ready:
            return b""
        if not ready:
            return None
        return os.read(self._out.fileno(), 1 << 18)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._closed:
                raise BrokenPipeError("closed")
            if _ready(1.0, self._in.fileno(), event=select.POLLOUT):
                view = view[os.write(self._in.fileno(), view[:4096]) :]

    def close(self) -> None:
        """End of stdin first: the agent's relay takes it as the end of its connection and goes by itself."""
        if self._closed:
            return
        self._closed = True
        os.write(self._end_write, b"x")
        self._in.close()
        try:
            self._child.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._out.close()

    def status(self) -> int | None:
        """The exit status; for a signal 128 + its number, as a shell has it."""
        try:
            code = self._child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return None
        return code if code >= 0 else 128 - code


def _ready(timeout: float, *descriptors: int, event: int) -> set[int]:
    """Those that can be read or written, or have ended. poll, because select knows no descriptor beyond 1023."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, event)
    return {descriptor for descriptor, _ in poll.poll(1000 * max(0.0, timeout))}
