"""SSH through fabric's Connection and paramiko's bare channel: the one room that knows either by name.

fabric reads ssh_config and knows about users, ports, keys, agents and jumps; then we drive the channel ourselves,
because ``Connection.run`` keeps all output in memory and slows down with its square. Three defaults are not kept:
host keys are checked (knownhosts.py), the agent is never forwarded, and a peer that has died without a word is noticed
by TCP_USER_TIMEOUT and by heartbeats above, since paramiko's own keepalive waits for ever.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fanout.errors import AuthRefused, Dropped, HostKeyChanged, HostKeyUnknown, TransportError, Unreachable
from fanout.hosts import Host
from fanout.transports.base import Channel, Deadline
from fanout.transports.knownhosts import KnownHosts, Verdict
from fanout.transports.lean import RARELY_REACHED, put_off

with put_off(*RARELY_REACHED):
    import fabric
    import paramiko

LOGINS_PER_HOP = 8  # sshd's MaxStartups (10:30:100) drops some of more than 10 logins at a time
DEAD_PEER_MS = 15_000
#: paramiko's read loop wakes this often (its own 0.1 s costs 2.8 % of a core at 64 idle links, and more in 64 logins).
IDLE_WAKE_SECONDS = 5.0


class SshChannel:
    """One session channel of a transport of its own."""

    def __init__(self, channel: paramiko.Channel, connections: list[fabric.Connection]) -> None:
        self._channel = channel
        self._connections = connections
        self.peer = _peer(connections)

    def read(self, timeout: float) -> bytes | None:
        self._channel.settimeout(timeout)
        try:
            return self._channel.recv(1 << 18)
        except TimeoutError:
            return None

    def write(self, data: bytes) -> None:
        try:
            self._channel.sendall(data)
        except paramiko.SSHException as error:
            raise BrokenPipeError(str(error)) from error

    def close(self) -> None:
        for connection in self._connections:
            if connection.transport is not None:
                _end(connection.transport)

    def status(self) -> int | None:
        if not self._channel.status_event.wait(5):
            return None
        code = self._channel.exit_status
        return code if code >= 0 else None  # -1: ended by a signal or a lost link; paramiko cannot say which


def _end(transport: paramiko.Transport) -> None:
    """Close it. The socket is shut first: a thread that sleeps in it wakes up at once, not after its idle time."""
    with contextlib.suppress(OSError, AttributeError):
        transport.sock.shutdown(socket.SHUT_RDWR)
    transport.close()


class _Connection(fabric.Connection):  # type: ignore[misc]
    """Keeps its attributes to itself: fabric's own writes some into the Config that all connections share, and rebuilds
    that at each write: while one thread does, another finds nothing in it."""

    __setattr__ = object.__setattr__


class _Transport(paramiko.Transport):
    """Makes nothing printable of what sshd says for debugging, and has no thread that waits for a slow handshake, which
    the deadline ends: each would be a tenth of the login's time."""

    def __init__(self, sock: Any, **options: Any) -> None:
        super().__init__(sock, **options)
        self.packetizer.start_handshake = lambda timeout: None  # type: ignore[method-assign]

    def _parse_debug(self, message: paramiko.Message) -> None: ...


class SshTransport:
    """Logs in and starts the command; safe to use from many threads at once."""

    name = "ssh"

    def __init__(
        self, *, ssh_config: str = "", accept_new_host_keys: bool = False, user: str = "", agent: bool = True
    ) -> None:
        """``agent``: does the environment name an ssh agent (told in errors; paramiko finds it by itself)."""
        logging.getLogger("paramiko").addHandler(logging.NullHandler())  # or it prints tracebacks on the user's screen
        logging.getLogger("paramiko").propagate = False
        self._config = fabric.Config(lazy=True, runtime_ssh_path=ssh_config or None)
        self._config.load_ssh_config()
        self._config._set(_keypath=(), _root=self._config)  # or invoke seeks both in vain: a millisecond at every host
        self._known = KnownHosts(accept_new=accept_new_host_keys)
        self._user = user
        self._agent = agent
        self._hops: dict[tuple[str, int], threading.Semaphore] = defaultdict(
            lambda: threading.Semaphore(LOGINS_PER_HOP)
        )
        self._found: dict[str, Mapping[str, Any]] = {}  # what ssh_config says of a name: one look-up takes 0.1 ms
        self._lock = threading.Lock()  # ssh_config look-ups and the dictionaries above are not made for threads

    def resolve(self, host: Host) -> tuple[str, str, int]:
        """(address, user, port) that ssh_config and the hostfile come to.

        From ssh_config itself, not from a Connection: fabric takes 1.1 ms to make one, the look-up takes 0.1.
        """
        config = self._ssh_config(host)
        address = host.hostname if host.hostname is not None else config.get("hostname", host.name)
        user = host.user or self._user or config.get("user", self._config.user)
        return str(address), str(user), int(host.port or config.get("port", self._config.port))

    def jumps(self, host: Host) -> bool:
        """Does ssh_config reach this host through another one?"""
        config = self._ssh_config(host)
        return ("proxyjump" in config or "proxycommand" in config) and bool(self._connection(host).gateway)

    def _ssh_config(self, host: Host) -> Mapping[str, Any]:
        with self._lock:
            if host.name not in self._found:
                self._found[host.name] = self._config.base_ssh_config.lookup(host.name)
            return self._found[host.name]

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        chain = self._chain(host)
        with self._lock:
            hop = self._hops[str(chain[-1].host), int(chain[-1].port)]
        with _in_our_words(chain[0], deadline, self._agent), _place(hop, deadline):
            try:
                self._login(chain, deadline)
                return self._session(chain, command, deadline)
            except BaseException:
                for connection in chain:
                    transport = connection.client.get_transport()  # connection.transport is None until it is open
                    if transport is not None:
                        _end(transport)
                raise

    def _connection(self, host: Host) -> fabric.Connection:
        with self._lock:
            connection = _Connection(
                host.name,
                user=host.user or self._user or None,
                port=host.port,
                config=self._config,
                forward_agent=False,
                connect_kwargs={"allow_agent": True},  # a dict of its own: fabric would write into a shared one
            )
        if host.hostname is not None:
            connection.host = host.hostname
        return connection

    def _chain(self, host: Host) -> list[fabric.Connection]:
        """The connection and the jumps before it, the host itself first."""
        chain = [self._connection(host)]
        while isinstance(chain[-1].gateway, fabric.Connection):
            chain.append(chain[-1].gateway)
        return chain

    def _login(self, chain: list[fabric.Connection], deadline: Deadline) -> None:
        """Open from the outermost hop inwards; every hop's key is checked like any other's."""
        for connection in reversed(chain):
            expected = self._known.entry(connection.ssh_config, str(connection.host), int(connection.port))
            connection.client.set_missing_host_key_policy(_Policy(self._known, expected))
            only_named = connection.ssh_config.get("identitiesonly", "no").lower() == "yes"
            connection.connect_timeout = None
            connection.connect_kwargs.update(
                timeout=deadline.left,
                banner_timeout=deadline.left,
                auth_timeout=deadline.left,
                channel_timeout=deadline.left,
                allow_agent=not only_named,
                look_for_keys=not only_named,
                transport_factory=_factory(expected.key_types, deadline),
            )
            if not connection.gateway:
                connection.connect_kwargs["sock"] = _dial(str(connection.host), int(connection.port), deadline)
            connection.open()

    def _session(self, chain: list[fabric.Connection], command: str, deadline: Deadline) -> Channel:
        transport = chain[0].transport
        channel = transport.open_session(timeout=deadline.left)
        channel.set_combine_stderr(True)
        channel.exec_command(command)  # waits without a time-out of its own: the deadline closes the transport
        return SshChannel(channel, chain)


@contextlib.contextmanager
def _place(hop: threading.Semaphore, deadline: Deadline) -> Iterator[None]:
    """One of the few logins that may be in flight at a time through one first hop."""
    if not hop.acquire(timeout=deadline.left):
        raise Unreachable(f"no turn to log in within {deadline.seconds:g} s: too many hosts behind one address",
                          hint="raise --connect-timeout")  # fmt: skip
    try:
        yield
    finally:
        hop.release()


def _connected(address: str, port: int, deadline: Deadline) -> socket.socket:
    """The first of the name's addresses that answers; each has its share of the time, so a dead one costs no login."""
    found = list(dict.fromkeys(entry[4][0] for entry in socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)))
    for number, numeric in enumerate(found, 1):
        try:
            return socket.create_connection((str(numeric), port), timeout=deadline.left / (len(found) - number + 1))
        except OSError:
            if number == len(found):
                raise
    raise OSError(f"the name {address} has no address")


def _dial(address: str, port: int, deadline: Deadline) -> socket.socket:
    """A TCP connection that notices a peer which died without a word."""
    sock = _connected(address, port, deadline)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; macOS has heartbeats alone
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
    return sock


def _factory(key_types: list[str], deadline: Deadline) -> Any:
    """Transports that ask first for a key of a type that known_hosts has, and that the deadline can close.

    AES-GCM comes before paramiko's own favourite, AES-CTR with HMAC, whose MAC it compares in Python, byte by byte.
    """

    def make(sock: Any, **options: Any) -> paramiko.Transport:
        transport = _Transport(sock, **options)
        if isinstance(sock, socket.socket):
            sock.settimeout(IDLE_WAKE_SECONDS)
        deadline.guard(functools.partial(_end, transport))
        security = transport.get_security_options()
        security.key_types = _first(security.key_types, key_types)
        security.ciphers = _first(security.ciphers, [name for name in security.ciphers if "gcm" in name])
        return transport

    return make


def _first(offered: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The same names, those that are wanted before the others."""
    return tuple(sorted(offered, key=lambda name: name not in wanted))


def _peer(connections: list[fabric.Connection]) -> str:
    """The address that was dialled, where no jump and no ProxyCommand stands before the host."""
    sock = connections[0].transport.sock
    if len(connections) > 1 or not isinstance(sock, socket.socket):
        return ""
    return str(sock.getpeername()[0])


class _Policy(paramiko.MissingHostKeyPolicy):
    """Every key is "missing" to paramiko, so every key comes here."""

    def __init__(self, known: KnownHosts, expected: Any) -> None:
        self._known = known
        self._expected = expected

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        verdict = self._known.judge(self._expected, key.get_name(), key.asbytes())
        if verdict is Verdict.KNOWN:
            return
        name, files = self._expected.name, self._expected.files
        shown = f"{key.get_name()} SHA256:{key.fingerprint.removeprefix('SHA256:')}"
        if verdict is Verdict.UNKNOWN:
            raise HostKeyUnknown(
                f"its host key is not in {files[0]}: {shown}",
                hint=f"log in once by hand and compare the fingerprint:  {self._expected.by_hand}   "
                "(or add --accept-new-host-keys)",
            )
        raise HostKeyChanged(
            f"its host key has CHANGED: it now shows {shown}, {' and '.join(self._expected.found_in)} has another"
            if verdict is Verdict.CHANGED
            else f"its host key is marked @revoked: {shown}",
            hint=f"if you know why (reinstalled?):  ssh-keygen -R '{name}'   and log in once by hand",
        )


@contextlib.contextmanager
def _in_our_words(connection: fabric.Connection, deadline: Deadline, agent: bool) -> Iterator[None]:
    """The border post: what the libraries raise leaves as a TransportError with a sentence for a person."""
    where = f"{connection.host}:{connection.port}"
    by_hand = f"ssh -p {connection.port} {connection.user}@{connection.host}"
    try:
        yield
    except TransportError:
        raise
    except socket.gaierror as error:
        raise Unreachable(
            f"the name {connection.host} does not resolve ({error.strerror or error})",
            hint=f"check the spelling, or add `Host {connection.original_host}` with a HostName to ~/.ssh/config",
        ) from error
    except ConnectionRefusedError as error:
        raise Unreachable(
            f"{where} refused the connection", hint=f"is sshd running there, on that port?  {by_hand}"
        ) from error
    except TimeoutError as error:
        raise Unreachable(
            f"no answer from {where} within {deadline.seconds:g} s",
            hint=f"is it up, and the address right? firewall, VPN?  {by_hand}",
        ) from error
    except (paramiko.PasswordRequiredException, paramiko.AuthenticationException) as error:
        raise _auth(connection, error, by_hand, agent) from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise _other(connection, error, where, by_hand) from error


def _auth(connection: fabric.Connection, error: Exception, by_hand: str, has_agent: bool) -> AuthRefused:
    names = connection.connect_kwargs.get("key_filename") or ["~/.ssh/id_*"]
    agent = "an agent is running" if has_agent else "no agent is running"
    if isinstance(error, paramiko.PasswordRequiredException):
        message = f"the key {', '.join(names)} needs its passphrase and {agent}"
        return AuthRefused(message, hint="ssh-add  (once, in this terminal)")
    return AuthRefused(
        f"permission denied for {connection.user}@{connection.host}:{connection.port} "
        f"(tried {', '.join(names)}; {agent})",
        hint=f"ssh-copy-id -p {connection.port} {connection.user}@{connection.host}   "
        f"(if plain `{by_hand}` works: --transport openssh)",
    )


def _other(connection: fabric.Connection, error: Exception, where: str, by_hand: str) -> TransportError:
    text = str(error) or type(error).__name__
    silent = "banner" in text or "No existing session" in text  # what paramiko says where no key came within the time
    if silent or isinstance(error, (EOFError, ConnectionResetError)):
        return Dropped(f"{where} closed or kept silent before any login", hint=f"is that an ssh server?  {by_hand}")
    if isinstance(error, OSError) and error.errno is not None:
        return Unreachable(f"{where}: {error.strerror or text}", hint=f"try  {by_hand}")
    if "Timeout" in text or "timed out" in text:
        return Unreachable(f"{where} answers, but the login did not finish in time", hint=f"try  {by_hand}")
    if "not a valid" in text and "key" in text:
        return AuthRefused(f"{where}: {text}", hint=f"try  {by_hand}")
    return Unreachable(f"{where}: {text}", hint=f"try  {by_hand}")
