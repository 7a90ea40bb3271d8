"""Demo SSH session: one command on one channel, the copying of its input and output, and its exit status.

It behaves like sshd without a terminal. The command runs as ``/bin/sh -c`` in its own process session. When it exits,
its status is sent at once. The channel closes when its output has ended too; a background process that still holds the
pipes can delay this. If the client disconnects, the command's pipes are closed and nothing else happens to it.

Each session has three threads, because each blocks on something different: ``run`` on the process, ``inward`` on the
channel, ``outward`` on the pipes and then on the client's window. At most one chunk per direction is buffered, so a
reader that stops also stops the writer at the other end.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress

from paramiko import Channel, SSHException
from paramiko.common import cMSG_CHANNEL_REQUEST
from paramiko.message import Message

from fanout.model.frozen import frozen

SHELL = "/bin/sh"
_PACKET = 32_000  # bytes of output at a time: data that fits one packet is neither split nor copied again
_CHUNK = 1 << 17  # bytes of input at a time
_POLL_INTERVAL = (
    1000  # ms between polls of the channel while the command does not read: paramiko reports a close only to readers
)
_DISCONNECTED = (OSError, EOFError, SSHException)  # exceptions of a send after the client has disconnected

# RFC 4254, section 6.10
_KNOWN_SIGNALS = ("ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2")


@frozen
class DemoAccount:
    """Account on a simulated host: the user, the public key (in wire format), and the home and environment of commands."""

    user: str
    key: bytes
    home: str
    environment: tuple[tuple[str, str], ...]


def format_signal_name(number: int) -> str:
    """Return a signal's name in the SSH protocol: ``KILL``, or ``BUS@openssh.com`` for signals that it does not list."""
    try:
        name = signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        name = str(number)
    return name if name in _KNOWN_SIGNALS else f"{name}@openssh.com"


class CommandSession:
    """Command and its channel; ends when the process has ended and all data is copied."""

    def __init__(
        self, channel: Channel, command: bytes, account: DemoAccount, ended: Callable[[CommandSession], None]
    ) -> None:
        self._channel = channel
        self._command = command
        self._account = account
        self._ended = ended
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._hung_up, self._hang_up = os.pipe()
        self._thread = threading.Thread(target=self._run, name="demo-session", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def kill(self) -> None:
        """Send SIGKILL to the command's process group; if the command has not started, do not start it."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                # macOS answers EPERM for a group that holds only a zombie.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def _run(self) -> None:
        try:
            process = self._start_process()
            if process is not None:
                self._copy_until_exit(process)
        finally:
            self._close_channel()
            os.close(self._hung_up)
            os.close(self._hang_up)
            self._ended(self)

    def _start_process(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._killed:
                return None
            try:
                self._process = subprocess.Popen(
                    [SHELL, "-c", self._command],
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd=self._account.home,
                    env=dict(self._account.environment) | _describe_connection(self._channel),
                    start_new_session=True,
                )
            except OSError as error:
                with suppress(*_DISCONNECTED):
                    self._channel.sendall_stderr(f"{SHELL}: cannot start: {error}\n".encode())
                    self._channel.send_exit_status(126)
            return self._process

    def _copy_until_exit(self, process: subprocess.Popen[bytes]) -> None:
        inward = threading.Thread(target=self._copy_input, args=(process,), name="demo-stdin", daemon=True)
        outward = threading.Thread(target=self._copy_output, args=(process,), name="demo-output", daemon=True)
        inward.start()
        outward.start()
        code = _wait_for_exit_code(process)
        with suppress(*_DISCONNECTED):
            self._send_exit_status(code)
        outward.join()
        self._close_channel()
        inward.join()
        with self._lock:
            process.wait()
            self._process = None

    def _close_channel(self) -> None:
        """Close the channel, and notify the client if it is still connected."""
        with suppress(*_DISCONNECTED):
            self._channel.close()

    def _send_exit_status(self, code: int) -> None:
        if code >= 0:
            self._channel.send_exit_status(code)
            return
        message = Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(self._channel.remote_chanid)
        message.add_string("exit-signal")
        message.add_boolean(False)
        message.add_string(format_signal_name(-code))
        message.add_boolean(False)  # core dumped
        message.add_string("")
        message.add_string("")
        # paramiko has no public way to send this one request; its own send_exit_status ends in the same call.
        self._channel.get_transport()._send_user_message(message)  # type: ignore[attr-defined]

    def _copy_input(self, process: subprocess.Popen[bytes]) -> None:
        """Copy the channel to stdin until the client sends EOF, then wait for the channel's close and signal it."""
        assert process.stdin is not None
        with process.stdin as stdin:
            os.set_blocking(stdin.fileno(), False)
            wanted = True
            with suppress(*_DISCONNECTED):
                while data := self._channel.recv(_CHUNK):
                    # Input that the command no longer reads is dropped, as sshd does, so that the client does not block.
                    wanted = wanted and self._write_all(stdin.fileno(), data)
        # Clients send no exit status to a server, so this returns only when the channel is closed.
        self._channel.recv_exit_status()
        os.write(self._hang_up, b".")

    def _write_all(self, fd: int, data: bytes) -> bool:
        """Write all data as fast as the command reads it; return False if the command no longer reads."""
        rest = memoryview(data)
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        with suppress(BrokenPipeError):
            while rest:
                if poller.poll(_POLL_INTERVAL):
                    rest = rest[os.write(fd, rest) :]
                elif self._channel.closed:
                    break
        return not rest

    def _copy_output(self, process: subprocess.Popen[bytes]) -> None:
        """Copy both outputs to the channel until both have ended (then send EOF), or until the client disconnects."""
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdout as stdout, process.stderr as stderr, suppress(*_DISCONNECTED):
            open_ends = {stdout.fileno(): self._channel.sendall, stderr.fileno(): self._channel.sendall_stderr}
            poller = select.poll()
            for fd in (*open_ends, self._hung_up):
                poller.register(fd, select.POLLIN)
            while open_ends:
                for fd, _ in poller.poll():
                    if fd == self._hung_up:
                        return
                    if data := os.read(fd, _PACKET):
                        open_ends[fd](data)
                    else:
                        poller.unregister(fd)
                        del open_ends[fd]
            self._channel.shutdown_write()


def _describe_connection(channel: Channel) -> dict[str, str]:
    """Return the variable with which sshd names the connection: Ctrl-C on ``fanout exec`` finds the command by it."""
    sock = channel.get_transport().sock
    assert isinstance(sock, socket.socket)
    try:
        ends = (*sock.getpeername()[:2], *sock.getsockname()[:2])
    except OSError:
        return {}  # the client has disconnected
    return {"SSH_CONNECTION": " ".join(map(str, ends))}


def _wait_for_exit_code(process: subprocess.Popen[bytes]) -> int:
    """Wait for the command to exit; return its exit code, or minus its signal.

    If the system supports it, the process is not reaped yet. Until then the kernel cannot reuse its pid, and ``kill``
    can still reach the remaining processes of its group.
    """
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return process.wait()
    info = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert info is not None
    return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status
