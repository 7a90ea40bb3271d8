"""Built-in ssh transport: fabric's Connection and a plain paramiko channel.

ssh_config.py reads the configuration with ``ssh -G``, and fabric's Connection receives every value. This module drives
the channel itself, because fabric's ``Connection.run`` keeps all output in memory and its cost grows with the square of
it. Three defaults differ: host keys are verified (known_hosts.py), the agent is never forwarded, and TCP_USER_TIMEOUT and
heartbeats detect a dead peer, because paramiko's own keepalive waits without end.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from fanout.model.frozen import frozen
from fanout.model.hosts import Host
from fanout.remote.transports.base import Channel, Deadline, HopLimiter
from fanout.remote.transports.command_end import END_SECONDS, OPEN_SECONDS, request_end
from fanout.remote.transports.dialing import ProxyCommand, open_tcp
from fanout.remote.transports.host_keys import KnownHosts
from fanout.remote.transports.identity_keys import KeyFiles
from fanout.remote.transports.lazy_imports import RARELY_REACHED, lazy_imports
from fanout.remote.transports.notices import Notices
from fanout.remote.transports.ssh_config import SshConfig
from fanout.remote.transports.ssh_options import SshOptions

with lazy_imports(*RARELY_REACHED):
    import fabric
    import paramiko

    from fanout.remote.transports.host_key_policy import HostKeyPolicy
    from fanout.remote.transports.key_login import KeyLogin
    from fanout.remote.transports.ssh_errors import LoginStep, translate_errors

#: paramiko's read loop wakes this often (its own 0.1 s costs 2.8 % of a core at 64 idle links, and more in 64 logins).
IDLE_WAKE_SECONDS = 30.0


@frozen
class OpenLogin:
    """An open login, to a jump host or to the host itself."""

    connection: fabric.Connection
    proxy: ProxyCommand | None

    def close(self) -> None:
        transport = self.connection.client.get_transport()  # connection.transport is None before open()
        if transport is not None:
            _end_transport(transport)
        if self.proxy is not None:
            self.proxy.close()


#: Exceptions of paramiko on a channel whose connection broke; its transport thread passes its own EOFError on.
_BROKEN = (paramiko.SSHException, EOFError)


class SshChannel:
    """One session channel of a transport of its own."""

    def __init__(self, channel: paramiko.Channel, logins: Sequence[OpenLogin], *, by_hand: str) -> None:
        self.by_hand = by_hand
        self._channel = channel
        self._logins = logins
        self.peer = _peer_address(logins)
        self.last_stderr = ""
        self._apart = False
        self._end_request: paramiko.Channel | None = None
        self._end_settled = threading.Event()
        self._end_settled.set()  # cleared while an end is requested

    def separate_stderr(self) -> None:
        self._channel.set_combine_stderr(False)
        self._apart = True

    def read(self, timeout: float) -> bytes | None:
        self._channel.settimeout(timeout)
        try:
            data = self._channel.recv(1 << 18)
        except TimeoutError:
            data = None
        except _BROKEN as error:
            raise BrokenPipeError(str(error) or "the connection was closed") from error
        while self._apart and self._channel.recv_stderr_ready() and (words := self._channel.recv_stderr(1 << 16)):
            self.last_stderr = words.decode("utf-8", "replace").strip()[
                -200:
            ]  # always read it: unread bytes fill the window
        return data

    def write(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except _BROKEN as error:
            raise BrokenPipeError(str(error) or "the connection was closed") from error

    def end_command(self) -> None:
        """Let the host send SIGTERM to the command, and close stdin."""
        self._end_settled.clear()
        try:
            self._end_request = request_end(self._logins[-1].connection.transport, self._channel)
            self._channel.shutdown_write()
        except _BROKEN as error:
            raise BrokenPipeError(str(error) or "the connection was closed") from error
        finally:
            self._end_settled.set()

    def close_input(self) -> None:
        try:
            self._channel.shutdown_write()
        except _BROKEN as error:
            raise BrokenPipeError(str(error) or "the connection was closed") from error

    def close(self) -> None:
        self._end_settled.wait(OPEN_SECONDS)
        if self._end_request is not None:  # its command must not outlive the connection
            self._end_request.status_event.wait(END_SECONDS)
        for login in reversed(self._logins):
            login.close()

    def exit_status(self) -> int | None:
        if not self._channel.status_event.wait(5):
            return None
        code = self._channel.exit_status
        return code if code >= 0 else None  # -1: a signal or a lost connection; paramiko does not distinguish them

    def has_reported_end(self) -> bool:
        return bool(self._channel.eof_received and self._logins[-1].connection.transport.is_active())


def _end_transport(transport: paramiko.Transport) -> None:
    """Close the transport. Shut the socket down first: this wakes a thread that sleeps in it at once."""
    with contextlib.suppress(OSError, AttributeError):
        transport.sock.shutdown(socket.SHUT_RDWR)
    transport.close()


class _Connection(fabric.Connection):  # type: ignore[misc]
    """A fabric Connection that stores its attributes only in itself.

    fabric writes some attributes into the Config that all connections share, and rebuilds it at each write. Another
    thread finds it empty meanwhile.
    """

    __setattr__ = object.__setattr__


class _Transport(paramiko.Transport):
    """A paramiko Transport that ignores sshd's debug messages and starts no thread for a slow handshake.

    The deadline ends a slow handshake. Each of the two would take a tenth of the login's time.
    """

    def __init__(self, sock: Any, **options: Any) -> None:
        super().__init__(sock, **options)
        self.wanted_keys: Sequence[str] = ()
        self.disconnect_text = ""  # why the host ended the connection
        self.packetizer.start_handshake = lambda timeout: None  # type: ignore[method-assign]

    def _parse_debug(self, message: paramiko.Message) -> None: ...

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        message.get_int()
        self.disconnect_text = message.get_text()

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Return the host key types to request. paramiko puts certificates last, and so would never receive one."""
        return _put_first(super().preferred_keys, self.wanted_keys)


class SshTransport:
    """Log in and start the command. Safe to use from many threads at once."""

    name = "ssh"
    open_files = 3  # a socket, and files of a login

    def __init__(
        self,
        config: SshConfig,
        *,
        accept_new_host_keys: bool = False,
        agent: bool = True,
        notices: Notices | None = None,
    ) -> None:
        """Set ``agent`` if the environment names an ssh agent (SSH_AUTH_SOCK)."""
        logging.getLogger("paramiko").addHandler(
            logging.NullHandler()
        )  # else it prints tracebacks on the user's screen
        logging.getLogger("paramiko").propagate = False
        self._ssh_config = config
        self._config = fabric.Config(lazy=True, ssh_config=paramiko.SSHConfig())  # fabric must not read the files
        self._config._set(_keypath=(), _root=self._config)  # else invoke searches both: a millisecond per host
        self._known = KnownHosts(accept_new=accept_new_host_keys)
        self._notices = notices or Notices()
        self._agent = agent
        self._key_files = KeyFiles()
        self._hops = HopLimiter()
        self._lock = threading.Lock()  # fabric's Config is not thread-safe

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        way = self._ssh_config.connect_path(host)
        steps = [
            LoginStep(options=options, before=before, target=options is way[-1], deadline=deadline)
            for options, before in zip(way, (None, *way), strict=False)
        ]
        logins: list[OpenLogin] = []
        with self._hops.hold_slot(way[0].hostname, way[0].port, deadline):
            try:
                for step in steps:
                    with translate_errors(step):
                        self._log_in(step, logins)
                with translate_errors(steps[-1]):
                    return self._start_command(logins, command, deadline, by_hand=way[-1].by_hand)
            except BaseException:
                for login in reversed(logins):
                    login.close()
                raise

    def _build_connection(self, options: SshOptions) -> fabric.Connection:
        """Build fabric's Connection with all values given, so that it looks nothing up."""
        with self._lock:
            return _Connection(
                options.hostname,
                user=options.user,
                port=options.port,
                config=self._config,
                gateway=False,
                forward_agent=False,
                connect_kwargs={"auth_strategy": None},  # a separate dict: fabric would write into a shared one
            )

    def _log_in(self, step: LoginStep, logins: list[OpenLogin]) -> None:
        """Log in to one machine on the way and verify its host key, whether it is a jump host or the target.

        It is added to ``logins`` before it is open, because the error is built before anything is closed.
        """
        options, deadline = step.options, step.deadline
        connection = self._build_connection(options)
        expected = self._known.expected_keys(options)
        connection.client.set_missing_host_key_policy(HostKeyPolicy(self._known, expected, self._notices))
        connection.connect_timeout = None
        connection.connect_kwargs.update(
            timeout=deadline.seconds_left,
            banner_timeout=deadline.seconds_left,
            auth_timeout=deadline.seconds_left,
            channel_timeout=deadline.seconds_left,
            auth_strategy=KeyLogin(options, self._key_files, deadline, agent=self._agent),
            transport_factory=_transport_factory(expected.key_types, deadline),
            sock=_open_socket(step, logins[-1] if logins else None),
        )
        logins.append(OpenLogin(connection=connection, proxy=step.proxy))
        connection.open()

    def _start_command(self, logins: list[OpenLogin], command: str, deadline: Deadline, *, by_hand: str) -> Channel:
        transport = logins[-1].connection.transport
        channel = transport.open_session(timeout=deadline.seconds_left)
        channel.set_combine_stderr(True)
        channel.exec_command(command)  # it has no time-out; the deadline closes the transport
        return SshChannel(channel, logins, by_hand=by_hand)


def _open_socket(step: LoginStep, before: OpenLogin | None) -> Any:
    """Open the socket of a login: a channel of the jump host, a ProxyCommand, or TCP."""
    options = step.options
    if before is not None:
        transport = before.connection.transport
        where, ours = (options.hostname, options.port), ("127.0.0.1", 65535)  # the source address of `ssh -W`
        channel = transport.open_channel("direct-tcpip", where, ours, timeout=step.deadline.seconds_left)
        channel.close = functools.partial(_close_quietly, channel.close)
        return channel
    if options.proxy_command:
        step.proxy = ProxyCommand(options, step.deadline)
        return step.proxy.sock
    return open_tcp(options, step.deadline)


def _close_quietly(close: Callable[[], None]) -> None:
    """Close a jump host's channel without an error if its connection is lost: paramiko would print a traceback."""
    with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
        close()


def _transport_factory(key_types: list[str], deadline: Deadline) -> Any:
    """Return a factory of transports that request known key types first, and that the deadline can close.

    AES-GCM comes before paramiko's first choice, AES-CTR with HMAC, whose MAC it compares in Python, byte by byte.
    """

    def make(sock: Any, **options: Any) -> paramiko.Transport:
        transport = _Transport(sock, **options)
        if isinstance(sock, socket.socket):
            sock.settimeout(IDLE_WAKE_SECONDS)
        deadline.close_on_expiry(functools.partial(_end_transport, transport))
        security = transport.get_security_options()
        transport.wanted_keys = key_types
        security.ciphers = _put_first(security.ciphers, [name for name in security.ciphers if "gcm" in name])
        return transport

    return make


def _put_first(offered: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the same names with the wanted ones first."""
    return tuple(sorted(offered, key=lambda name: name not in wanted))


def _peer_address(logins: Sequence[OpenLogin]) -> str:
    """Return the address of the TCP connection, "" if it leads to a jump host or through a ProxyCommand."""
    if len(logins) > 1 or logins[0].proxy is not None:
        return ""
    return str(logins[0].connection.transport.sock.getpeername()[0])
