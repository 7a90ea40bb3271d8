"""Socket of a login: a TCP connection as the configuration requires, or the pipe of a ProxyCommand."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from typing import IO

from fanout.model.errors import Unreachable
from fanout.remote.transports.base import Deadline
from fanout.remote.transports.ssh_options import SshOptions

DEAD_PEER_MS = 15_000
ATTEMPT_PAUSE_SECONDS = 1.0  # between the ConnectionAttempts, as in ssh
FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
_SIOCGIFADDR = 0x8915
_STDERR_BYTES = 400  # bytes of a ProxyCommand's stderr that an error shows


def open_tcp(options: SshOptions, deadline: Deadline) -> socket.socket:
    """Open a TCP connection that detects a dead peer. Raises OSError."""
    sock = _connect_with_retries(options, deadline)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; on macOS only the heartbeats detect a dead peer
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
    return sock


def _connect_with_retries(options: SshOptions, deadline: Deadline) -> socket.socket:
    """Connect as often as ConnectionAttempts allows while there is time."""
    for number in range(1, options.connection_attempts + 1):
        try:
            return _connect_once(options, deadline)
        except socket.gaierror:
            raise
        except OSError:
            if (
                number == options.connection_attempts
                or deadline.has_expired
                or deadline.seconds_left <= ATTEMPT_PAUSE_SECONDS
            ):
                raise
        threading.Event().wait(ATTEMPT_PAUSE_SECONDS)
    raise AssertionError("ssh -G prints at least one attempt")


def _connect_once(options: SshOptions, deadline: Deadline) -> socket.socket:
    """Try the addresses of the name in turn. Each gets its share of the time, so a dead one does not fail the login."""
    family = FAMILIES.get(options.address_family, socket.AF_UNSPEC)
    deadline.doing = f"the name server, which looks up {options.hostname}"
    entries = socket.getaddrinfo(options.hostname, options.port, family=family, type=socket.SOCK_STREAM)
    deadline.doing = ""
    found = list(dict.fromkeys((entry[0], entry[4]) for entry in entries))
    for number, (kind, address) in enumerate(found, 1):
        seconds = deadline.seconds_left / (len(found) - number + 1)
        seconds = min(seconds, options.connect_timeout) if options.connect_timeout else seconds
        sock = socket.socket(kind, socket.SOCK_STREAM)
        try:
            sock.settimeout(seconds)
            _bind_source(sock, options)
            sock.connect(address)
            return sock
        except OSError:
            sock.close()
            if number == len(found):
                raise
    raise OSError(f"the name {options.hostname} has no address")


def _bind_source(sock: socket.socket, options: SshOptions) -> None:
    """Apply BindAddress and BindInterface."""
    source = options.bind_address
    if not source and options.bind_interface:
        source = _address_of(options.bind_interface, sock.family)
    if source:
        entry = socket.getaddrinfo(source, 0, family=sock.family, type=socket.SOCK_STREAM)[0]
        sock.bind(entry[4])


def _address_of(interface: str, family: int) -> str:
    """Return the address of a network interface. Raises OSError if it has none of this family."""
    if family == socket.AF_INET6:
        with open("/proc/net/if_inet6", encoding="ascii") as file:
            for digits, _, _, scope, _, name in (line.split() for line in file):
                if name == interface and scope in ("00", "10"):  # global, or the loopback's
                    return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
        raise OSError(f"BindInterface {interface} has no IPv6 address")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", interface.encode()[:15])
        try:
            return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24])
        except OSError as error:
            raise OSError(error.errno, f"BindInterface {interface}: {error.strerror}") from error


class ProxyCommand:
    """A running ProxyCommand. ``sock`` is its stdin and stdout."""

    def __init__(self, options: SshOptions, deadline: Deadline) -> None:
        """Start the command with the user's shell, as ssh does. Raises Unreachable."""
        self.command = options.proxy_command
        self._stderr_file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe without a reader would fill up
        ours, theirs = socket.socketpair()
        with theirs:
            shell = os.path.expandvars("$SHELL")
            shell = shell if shell.startswith("/") else "/bin/sh"
            try:
                self._child = subprocess.Popen(
                    [shell, "-c", f"exec {self.command}"],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=self._stderr_file,
                    start_new_session=True,  # Ctrl-C at the terminal reaches the launcher alone
                )
            except OSError as error:
                ours.close()
                raise Unreachable(f"cannot start {shell} for the ProxyCommand: {error.strerror}") from error
        deadline.close_on_expiry(self._end)
        self.sock = _receive_socket(ours, deadline) if options.is_on("proxyusefdpass") else ours

    def describe_failure(self) -> str:
        """Return why the command ended, "" while it runs."""
        try:
            code = self._child.wait(timeout=0.5)  # it closes its end a moment before it exits
        except subprocess.TimeoutExpired:
            return ""
        self._stderr_file.seek(max(0, self._stderr_file.seek(0, os.SEEK_END) - _STDERR_BYTES))
        lines = self._stderr_file.read().decode("utf-8", "replace").strip().splitlines()
        reason = f": {lines[-1].strip()}" if lines else ""
        if code in (126, 127):
            return f"the ProxyCommand `{self.command}` cannot be run{reason}"
        how = f"status {code}" if code >= 0 else f"signal {-code}"
        return f"the ProxyCommand `{self.command}` ended with {how}{reason}"

    def _end(self) -> None:
        """Ask the command, and what it started, to end."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGTERM)

    def close(self) -> None:
        """End the command and wait for it."""
        self._end()
        try:
            self._child.wait(timeout=1)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):  # a process stuck in state D cannot be killed
                self._child.wait(timeout=5)
        self._stderr_file.close()


def _receive_socket(ours: socket.socket, deadline: Deadline) -> socket.socket:
    """Receive the connected socket that a command with ProxyUseFdpass passes."""
    with ours:
        ours.settimeout(deadline.seconds_left)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    if not descriptors:
        raise Unreachable("the ProxyCommand passed no socket (ProxyUseFdpass)")
    return socket.socket(fileno=descriptors[0])
