"""Child process as a Channel: the common part of the local and the openssh transport.

One thread reads, one writes, and any thread may close the channel. A descriptor is closed only when no thread is inside
``read`` or ``write``, because its number could belong to another file a moment later.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from typing import IO

LEAVE_SECONDS = 2.0  # for a child to exit by itself after the end of its stdin
TERM_SECONDS = 1.0  # for ssh to end its ProxyCommand after SIGTERM
KILL_SECONDS = 5.0  # for the kernel to end a process after SIGKILL
LAST_STDERR_BYTES = 4096  # bytes of stderr that are kept once it is read separately
LAST_PIECES = 64  # more than a pipe holds
PIECE = 1 << 18


class PipeChannel:
    """The stdin and stdout of a child. ``read`` includes its stderr until ``separate_stderr`` is called."""

    peer = by_hand = ""

    def __init__(
        self, argv: list[str], *, env: Mapping[str, str] | None = None, one_pipe: bool = False, cwd: str | None = None
    ) -> None:
        """Start the child. With ``one_pipe`` stdout and stderr share a pipe, which keeps their order.

        ``separate_stderr`` has no effect then.
        """
        self._child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if one_pipe else subprocess.PIPE,
            env=env,
            cwd=cwd,
            bufsize=0,
            start_new_session=True,  # Ctrl-C at the terminal reaches the launcher alone; the child has its own group
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._in: IO[bytes] = self._child.stdin
        self._out: IO[bytes] = self._child.stdout
        self._err: IO[bytes] | None = self._child.stderr
        self._files = [file for file in (self._in, self._out, self._err) if file is not None]
        for file in self._files:
            os.set_blocking(file.fileno(), False)
        self._wake_read, self._wake_write = os.pipe()  # readable once the channel is closed
        self._apart = False
        self._last_lines = b""
        self._lock = threading.Condition()
        self._users = 0
        self._closed = False

    # -- reading

    def read(self, timeout: float) -> bytes | None:
        until = time.monotonic() + timeout
        with self._in_use() as usable:
            while usable and not self._closed and not self._has_ended():
                ready = poll_ready(until - time.monotonic(), {**self._sources(), self._wake_read: select.POLLIN})
                if not ready:
                    return None
                if self._wake_read in ready:
                    break
                data = self._read_ready(ready)
                if data is not None:
                    return data
        return b""

    def _sources(self) -> dict[int, int]:
        """Return the descriptors that ``read`` waits for, each with its poll event."""
        files = (self._out, self._err)
        return {file.fileno(): select.POLLIN for file in files if file is not None and not file.closed}

    def _read_ready(self, ready: set[int]) -> bytes | None:
        """Read one of the ready descriptors. Return None if there are no bytes for the caller."""
        if not self._out.closed and self._out.fileno() in ready:
            data = read_available(self._out)
            if data:
                return data
            if data == b"":
                self._out.close()
                self._drain_stderr()
        elif self._err is not None and not self._err.closed and self._err.fileno() in ready:
            data = read_available(self._err)
            if data == b"":
                self._err.close()
            elif data and not self._apart:
                return data
            elif data:
                self._keep_stderr(data)
        return b"" if self._has_ended() else None

    def _has_ended(self) -> bool:
        """Return whether there is no more to read. If stderr is included, both must have ended."""
        return self._out.closed and (self._apart or self._err is None or self._err.closed)

    def _drain_stderr(self) -> None:
        """Keep what the child has written to stderr so far: it explains the end of stdout."""
        for _ in range(LAST_PIECES):
            if not self._apart or self._err is None or self._err.closed or not (data := read_available(self._err)):
                return
            self._keep_stderr(data)

    def _keep_stderr(self, data: bytes) -> None:
        self._last_lines = (self._last_lines + data)[-LAST_STDERR_BYTES:]

    def separate_stderr(self) -> None:
        self._apart = self._err is not None

    @property
    def last_stderr(self) -> str:
        lines = self._last_lines.decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    # -- writing

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        with self._in_use() as usable:
            while view:
                if not usable or self._closed:
                    raise BrokenPipeError("closed")
                ready = poll_ready(1.0, {self._in.fileno(): select.POLLOUT, self._wake_read: select.POLLIN})
                if self._in.fileno() in ready and self._wake_read not in ready:
                    with contextlib.suppress(BlockingIOError):
                        view = view[os.write(self._in.fileno(), view) :]

    # -- ending

    def end_command(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGTERM)

    def close_input(self) -> None:
        with self._in_use() as usable:
            if usable:
                self._in.close()

    def close(self) -> None:
        """Close stdin first: the agent's relay takes it as the end of its connection and exits by itself."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.write(self._wake_write, b"x")
            idle = self._lock.wait_for(lambda: not self._users, KILL_SECONDS)
        if idle:
            self._in.close()
        self._end_child()
        if idle:
            self._close_descriptors()

    def _close_descriptors(self) -> None:
        """Close every descriptor. No thread may use one any more."""
        for file in self._files:
            file.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _end_child(self) -> None:
        """Wait for the child. If it stays, signal its whole process group, because ssh may have a ProxyCommand."""
        for seconds, number in ((LEAVE_SECONDS, signal.SIGTERM), (TERM_SECONDS, signal.SIGKILL)):
            if self._wait_for_exit(seconds):
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)
        self._wait_for_exit(KILL_SECONDS)

    def _wait_for_exit(self, seconds: float) -> bool:
        try:
            self._child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def exit_status(self) -> int | None:
        """Return the exit status, for a signal 128 + its number as in a shell; None if the child still runs."""
        if not self._wait_for_exit(KILL_SECONDS):
            return None
        code = self._child.returncode
        return code if code >= 0 else 128 - code

    def has_reported_end(self) -> bool:
        """Return False: without an exit status, the child still runs, or ssh did not report how the command ended."""
        return False

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[bool]:
        """Keep the descriptors open inside the ``with`` block. Yield False if they are closed already."""
        with self._lock:
            usable = not self._closed
            self._users += usable
        try:
            yield usable
        finally:
            with self._lock:
                self._users -= usable
                self._lock.notify_all()


def read_available(file: IO[bytes]) -> bytes | None:
    """Read the available bytes. Return b"" at the end, None if there are none at this moment."""
    try:
        return os.read(file.fileno(), PIECE)
    except BlockingIOError:
        return None


def poll_ready(timeout: float, events: Mapping[int, int]) -> set[int]:
    """Return the descriptors that are ready or have ended. It uses poll, because select fails beyond 1023."""
    poll = select.poll()
    for descriptor, event in events.items():
        poll.register(descriptor, event)
    return {descriptor for descriptor, _ in poll.poll(1000 * max(0.0, timeout))}
