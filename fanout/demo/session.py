"""One command on one channel: its process, the pumps between the two, and its end told to the client.

The shape is that of sshd without a terminal. The command runs as ``/bin/sh -c`` in a session of its own; when it
exits its status goes out at once, and the channel closes when its output has ended too, which a background process
that still holds the pipes can delay. A client that goes away closes the command's pipes and does nothing else to it.

Three threads a session, because each blocks on a thing of its own: ``run`` on the process, ``inward`` on the channel,
``outward`` on the pipes and then on the client's window. Nothing is held beyond one chunk a direction: a reader that
stops stops the writer at the other end.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from paramiko import Channel, SSHException
from paramiko.common import cMSG_CHANNEL_REQUEST
from paramiko.message import Message

SHELL = "/bin/sh"
_PACKET = 32_000  # bytes of output at a time: what fits one packet is neither cut nor copied again
_CHUNK = 1 << 17  # bytes of input at a time
_LOOK = 1000  # ms between looks at the channel while the command does not read: paramiko tells only readers of a close
_GONE = (OSError, EOFError, SSHException)  # what sending raises when nobody is there any more

# RFC 4254, section 6.10
_KNOWN_SIGNALS = ("ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who may log in to a played host, with which public key (its wire form), and what a command finds there."""

    user: str
    key: bytes
    home: str
    environment: tuple[tuple[str, str], ...]


def signal_name(number: int) -> str:
    """The name of a signal as the protocol writes it: ``KILL``, or ``BUS@openssh.com`` for those that it does not list."""
    try:
        name = signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        name = str(number)
    return name if name in _KNOWN_SIGNALS else f"{name}@openssh.com"


class Session:
    """A command and its channel; lives until the process has ended and nothing is left to pump."""

    def __init__(self, channel: Channel, command: bytes, account: Account, ended: Callable[[Session], None]) -> None:
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
        """SIGKILL to the command's process group, or no command at all if it has not begun."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                # macOS answers EPERM for a group that holds only a zombie.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def _run(self) -> None:
        try:
            process = self._spawn()
            if process is not None:
                self._attend(process)
        finally:
            self._close()
            os.close(self._hung_up)
            os.close(self._hang_up)
            self._ended(self)

    def _spawn(self) -> subprocess.Popen[bytes] | None:
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
                    env=dict(self._account.environment),
                    start_new_session=True,
                )
            except OSError as error:
                with suppress(*_GONE):
                    self._channel.sendall_stderr(f"{SHELL}: cannot start: {error}\n".encode())
                    self._channel.send_exit_status(126)
            return self._process

    def _attend(self, process: subprocess.Popen[bytes]) -> None:
        inward = threading.Thread(target=self._pump_in, args=(process,), name="demo-stdin", daemon=True)
        outward = threading.Thread(target=self._pump_out, args=(process,), name="demo-output", daemon=True)
        inward.start()
        outward.start()
        code = _exit_code(process)
        with suppress(*_GONE):
            self._tell(code)
        outward.join()
        self._close()
        inward.join()
        with self._lock:
            process.wait()
            self._process = None

    def _close(self) -> None:
        """Close the channel, and tell the client if it is still there."""
        with suppress(*_GONE):
            self._channel.close()

    def _tell(self, code: int) -> None:
        if code >= 0:
            self._channel.send_exit_status(code)
            return
        message = Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(self._channel.remote_chanid)
        message.add_string("exit-signal")
        message.add_boolean(False)
        message.add_string(signal_name(-code))
        message.add_boolean(False)  # core dumped
        message.add_string("")
        message.add_string("")
        # paramiko has no public way to send this one request; its own send_exit_status ends in the same call.
        self._channel.get_transport()._send_user_message(message)  # type: ignore[attr-defined]

    def _pump_in(self, process: subprocess.Popen[bytes]) -> None:
        """Channel to stdin until the client says EOF, then wait for the end of the channel and pass it on."""
        assert process.stdin is not None
        with process.stdin as stdin:
            os.set_blocking(stdin.fileno(), False)
            wanted = True
            with suppress(*_GONE):
                while data := self._channel.recv(_CHUNK):
                    # What a command no longer reads is dropped, as sshd does: the client must not stall on it.
                    wanted = wanted and self._deliver(stdin.fileno(), data)
        # Nobody sends an exit status to a server, so this returns when the channel is closed, and not before.
        self._channel.recv_exit_status()
        os.write(self._hang_up, b".")

    def _deliver(self, fd: int, data: bytes) -> bool:
        """Write it all, at the pace of the command; False when the command does not read any more."""
        rest = memoryview(data)
        poller = select.poll()
        poller.register(fd, select.POLLOUT)
        with suppress(BrokenPipeError):
            while rest:
                if poller.poll(_LOOK):
                    rest = rest[os.write(fd, rest) :]
                elif self._channel.closed:
                    break
        return not rest

    def _pump_out(self, process: subprocess.Popen[bytes]) -> None:
        """Both outputs to the channel until both have ended (then EOF), or until nobody is there to read them."""
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdout as stdout, process.stderr as stderr, suppress(*_GONE):
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


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of the command; its code, or minus its signal.

    Where the system can, the process is left unreaped: as long as it is, nobody else can be given its number, and
    ``kill`` may still reach what the command left in its group.
    """
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return process.wait()
    info = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert info is not None
    return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status
