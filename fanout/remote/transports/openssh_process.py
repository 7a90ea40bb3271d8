"""``ssh`` process as a Channel, with ssh's own log on a separate pipe."""

from __future__ import annotations

import contextlib
import os
import select
import tempfile
from typing import IO

from fanout.remote.transports.base import Deadline
from fanout.remote.transports.openssh_log import SshLog
from fanout.remote.transports.subprocess_channel import PipeChannel, poll_ready, read_available


class LogPipe:
    """A pipe that ssh can open by a path, because it closes every descriptor that it inherits."""

    def __init__(self, *, by_proc: bool = os.path.isdir("/proc/self/fd")) -> None:
        self._directory = ""
        if by_proc:
            read_end, self._write_end = os.pipe()
            self.path = f"/proc/{os.getpid()}/fd/{self._write_end}"
        else:
            self._directory = tempfile.mkdtemp(prefix="fanout-")
            self.path = os.path.join(self._directory, "log")
            os.mkfifo(self.path, 0o600)
            read_end = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
            self._write_end = os.open(self.path, os.O_WRONLY)
        self.file: IO[bytes] = os.fdopen(read_end, "rb", buffering=0)
        os.set_blocking(read_end, False)

    def mark_opened(self) -> None:
        """Delete the path and close the write end: ssh has opened the pipe."""
        if self._write_end >= 0:
            os.close(self._write_end)
            self._write_end = -1
        if self._directory:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
                os.rmdir(self._directory)
            self._directory = ""

    def close(self) -> None:
        self.mark_opened()
        self.file.close()


class SshProcess(PipeChannel):
    """An ``ssh`` process as a channel."""

    def __init__(self, argv: list[str], pipe: LogPipe, *, by_hand: str) -> None:
        self.by_hand = by_hand
        self._pipe = pipe
        self.log = SshLog()
        self._before = b""  # bytes that were read before the login was complete
        try:
            super().__init__(argv)
        except BaseException:
            pipe.close()
            raise

    def log_in(self, deadline: Deadline) -> bool:
        """Wait until ssh has logged in. Return False if it exited, or was closed, before."""
        with self._in_use() as usable:
            while usable and not self._closed and not self.log.logged_in:
                ready = poll_ready(deadline.seconds_left, {**self._sources(), self._wake_read: select.POLLIN})
                if self._wake_read in ready:
                    break
                if self._read_log(ready):
                    continue
                data = self._read_ready(ready)
                self._before += data or b""
                if data and self._is_stdout_ready(ready):
                    return True  # the host sends output, so the login is complete even if the log does not show it
                if data == b"" or self._out.closed:
                    return False
            return self.log.logged_in

    def _is_stdout_ready(self, ready: set[int]) -> bool:
        return not self._out.closed and self._out.fileno() in ready

    def read(self, timeout: float) -> bytes | None:
        before, self._before = self._before, b""
        return before or super().read(timeout)

    @property
    def stderr_lines(self) -> list[str]:
        """Return the lines on stderr from before the login: of a jump host's ssh, or a ProxyCommand."""
        return [line.strip() for line in self._before.decode("utf-8", "replace").splitlines() if line.strip()]

    @property
    def peer(self) -> str:  # type: ignore[override]
        return self.log.address

    @property
    def last_stderr(self) -> str:
        return self.log.last_message or super().last_stderr

    def end_command(self) -> None:
        """Close stdin: the ssh program cannot send a signal to the host."""
        self.close_input()

    def exit_status(self) -> int | None:
        """Return the command's exit status. ssh's own 255 is None: a lost connection, or a signal ended the command."""
        code = super().exit_status()
        self._drain_log()
        return code if code != 255 or self.log.has_status or self.log.shared else None

    def _sources(self) -> dict[int, int]:
        log = {} if self._pipe.file.closed else {self._pipe.file.fileno(): select.POLLIN}
        return {**super()._sources(), **log}

    def _read_ready(self, ready: set[int]) -> bytes | None:
        if self._read_log(ready):
            return None
        return super()._read_ready(ready)

    def _read_log(self, ready: set[int]) -> bool:
        """Read the log if it is ready. Return whether it was."""
        if self._pipe.file.closed or self._pipe.file.fileno() not in ready:
            return False
        data = read_available(self._pipe.file)
        if data == b"":
            self._pipe.file.close()
        elif data:
            self._pipe.mark_opened()
            self.log.feed_bytes(data)
        return True

    def _drain_stderr(self) -> None:
        super()._drain_stderr()
        self._drain_log()

    def _drain_log(self) -> None:
        for _ in range(64):
            if self._pipe.file.closed or not (data := read_available(self._pipe.file)):
                return
            self.log.feed_bytes(data)

    def _close_descriptors(self) -> None:
        super()._close_descriptors()
        self._pipe.close()
