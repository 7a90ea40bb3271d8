"""Demo SSH server: on one loopback address, accepts one user with one key, who may only run commands.

paramiko implements the protocol. Its defaults refuse passwords, terminals, shells, subsystems, forwarding and
environment variables; ``_CommandOnlyInterface`` allows only what is needed. One thread accepts connections, each connection has a
thread of paramiko, and each command has the threads of its session. An error in a connection ends only that connection.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_SUCCEEDED,
    cMSG_CHANNEL_SUCCESS,
)
from paramiko.message import Message
from paramiko.packet import Packetizer

from fanout.demo.channel_command import CommandSession, DemoAccount

# These ciphers need one call per packet; the others need two, for cipher and MAC. They give 10 % more throughput.
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
_IDLE = 5.0  # s between looks at a quiet socket; with paramiko's own 0.1 s many idle connections cost real CPU time
_RETRY_DELAY = 100  # ms

# Without a handler, paramiko writes a traceback to the terminal for each client that disconnects early.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def open_listener(address: str, port: int = 0) -> socket.socket:
    """Listen on the address; port 0 is any free port. Raises OSError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections keep the port for a minute
        listener.bind((address, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


class _GrantingPacketizer(Packetizer):
    """Packetizer of paramiko with a callback after a granted request, and without a leftover timer thread."""

    REKEY_BYTES = 1 << 35  # RFC 4344 allows 2^32 AES blocks; paramiko's early rekeying can stall a busy channel

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.on_granted: deque[Callable[[], None]] = deque()

    def send_message(self, data: Message) -> None:
        """Send a message; if it grants a request, run the next callback that waits for it.

        paramiko calls the server's decision first and replies afterwards. If a command as short as ``true`` started
        at once, it could close its channel before the client receives the reply.
        """
        super().send_message(data)
        if self.on_granted and data.asbytes()[:1] == cMSG_CHANNEL_SUCCESS:
            self.on_granted.popleft()()

    def close(self) -> None:
        self.complete_handshake()  # else its timer thread stays if the client disconnected during the handshake
        super().close()


class _CommandOnlyInterface(paramiko.ServerInterface):
    """Permissions of one client: log in with the key, and run commands."""

    def __init__(self, account: DemoAccount, begin: Callable[[paramiko.Channel, bytes], None]) -> None:
        self._account = account
        self._begin = begin
        self._taken: set[int] = set()

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        welcome = username == self._account.user and key.asbytes() == self._account.key
        return AUTH_SUCCESSFUL if welcome else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED if kind == "session" else OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if channel.chanid in self._taken or b"\0" in command:
            return False
        self._taken.add(channel.chanid)
        self._begin(channel, command)
        return True


class DemoServer:
    """SSH server of one simulated host: ``with DemoServer(...)`` answers on ``address``:``port`` until the block ends.

    ``close`` disconnects the host before that, and ``reopen`` connects it again.
    """

    def __init__(self, listener: socket.socket, host_key: paramiko.PKey, account: DemoAccount) -> None:
        self.address, self.port = listener.getsockname()[:2]
        if not ipaddress.ip_address(self.address).is_loopback:
            raise ValueError(f"a simulated host listens on loopback only, not on {self.address}")
        self._listener = listener
        self._host_key = host_key
        self._account = account
        self._connections: set[paramiko.Transport] = set()
        self._sessions: set[CommandSession] = set()
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._is_open = False

    def __enter__(self) -> DemoServer:
        with self._opening:
            self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop accepting, close every connection, kill every command, and wait until all threads have ended."""
        with self._opening:
            if self._is_open:
                self._stop()

    def reopen(self) -> None:
        """Answer again on the same address and port after ``close``."""
        with self._opening:
            if self._is_open:
                return
            self._listener = open_listener(self.address, self.port)
            self._start()

    def _start(self) -> None:
        self._listener.setblocking(False)
        self._closing, self._close = os.pipe()
        self._thread = threading.Thread(
            target=self._accept_connections, name=f"demo-{self.address}:{self.port}", daemon=True
        )
        self._thread.start()
        self._is_open = True

    def _stop(self) -> None:
        self._is_open = False
        os.write(self._close, b".")
        self._thread.join()
        self._listener.close()
        # Before the connections are closed: a session without a client may end, and its processes could not be killed.
        self._kill_sessions()
        for transport in self._connections:
            # shutdown, not close: only shutdown wakes a thread that waits in recv.
            with suppress(OSError):
                transport.sock.shutdown(socket.SHUT_RDWR)
        for transport in self._connections:
            transport.join()
            transport.packetizer.complete_handshake()
        for session in self._kill_sessions():  # no connection is left that could start another session
            session.join()
        os.close(self._closing)
        os.close(self._close)

    def _accept_connections(self) -> None:
        closing, either = select.poll(), select.poll()
        closing.register(self._closing, select.POLLIN)
        either.register(self._closing, select.POLLIN)
        either.register(self._listener, select.POLLIN)
        while self._closing not in dict(either.poll()):
            try:
                self._accept_connection()
            except (OSError, RuntimeError):
                # The client has disconnected, or there are no free descriptors or threads: wait until some are free.
                closing.poll(_RETRY_DELAY)
            self._connections = {transport for transport in self._connections if transport.is_alive()}

    def _accept_connection(self) -> None:
        sock, _ = self._listener.accept()
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(sock, packetizer_class=_GrantingPacketizer)
            transport.get_security_options().ciphers = _CIPHERS
            transport.add_server_key(self._host_key)
            # With an event, start_server does not wait for the handshake, which the client could delay.
            transport.start_server(
                event=threading.Event(), server=_CommandOnlyInterface(self._account, self._on_granted)
            )
        except BaseException:
            sock.close()
            raise
        self._connections.add(transport)

    def _on_granted(self, channel: paramiko.Channel, command: bytes) -> None:
        transport = channel.get_transport()
        transport.sock.settimeout(_IDLE)
        assert isinstance(transport.packetizer, _GrantingPacketizer)
        transport.packetizer.on_granted.append(lambda: self._start_session(channel, command))

    def _start_session(self, channel: paramiko.Channel, command: bytes) -> None:
        with self._lock:  # a command that ends at once must not be removed before it is added
            session = CommandSession(channel, command, self._account, self._remove_session)
            session.start()
            self._sessions.add(session)

    def _kill_sessions(self) -> tuple[CommandSession, ...]:
        with self._lock:
            sessions = tuple(self._sessions)
        for session in sessions:
            session.kill()
        return sessions

    def _remove_session(self, session: CommandSession) -> None:
        with self._lock:
            self._sessions.discard(session)
