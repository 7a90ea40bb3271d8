"""Login to one host, within a deadline over all its waits.

Most waits of a login end when its connection is closed. A wait for a name server or a home directory on NFS cannot be
ended. The launcher abandons the thread of such a wait, and another thread replaces it.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import field

from fanout.agent import bundle
from fanout.model.containers import note_engine
from fanout.model.errors import AgentRefused, TransportError, Unreachable
from fanout.model.events import Event, LoginOutput
from fanout.model.frozen import frozen
from fanout.model.hosts import Host
from fanout.model.option_table import default_of
from fanout.remote import container_entry, protocol
from fanout.remote.handshake import run_handshake
from fanout.remote.transports.base import Channel, Deadline, LoginSlot, Transport

HEARTBEAT_SECONDS = 5.0
#: Chunks of 256 KB in the event queue: of one host, as much as paramiko holds of it, and of all hosts.
CHUNKS_OF_HOST, CHUNKS_OF_ALL = 8, 128
HUNG_SECONDS = 2.0  # after the deadline: time for a login to end once its connection is closed


@frozen
class ConnectionOptions:
    """Options of all connections. If ``command`` is empty they start the agent, else they run the command (exec)."""

    dials: int = default_of("fanout")
    connect_timeout: float = default_of("connect_timeout")
    heartbeat_seconds: float = HEARTBEAT_SECONDS  # must be much shorter than the lease
    by: str = "?"  # user@machine of the launcher; a busy host reports it to others
    command: str = ""
    creations: Mapping[str, str] = field(default_factory=dict)  # host -> the script that creates its container
    retry_seconds: float = 0.0  # after which a host that was not reached is tried again; 0: never
    chunks: int = CHUNKS_OF_HOST  # of one host that may wait in the event queue


def choose_chunks(hosts: int) -> int:
    """Return how many chunks of each host may wait in the event queue, so that a flood of all hosts fits in memory."""
    return max(1, min(CHUNKS_OF_HOST, CHUNKS_OF_ALL // hosts))


@frozen
class EstablishedLogin:
    """A connection on which the agent, or the plain command, has started.

    ``login_output`` is the output of the login. ``early`` are events that arrived together with the hello.
    """

    channel: Channel
    decoder: protocol.FrameDecoder
    login_output: list[LoginOutput]
    early: list[Event]


class LoginRunner:
    """Log in to one host, as often as needed."""

    def __init__(
        self,
        host: Host,
        transport: Callable[[Host], Transport],
        options: ConnectionOptions,
        clock: Callable[[], float],
        places: threading.Semaphore,
    ) -> None:
        """Share ``places``, which limits how many hosts log in at a time."""
        self._host = host
        self._transport = transport
        self._clock = clock
        self._places = places
        self._timeout = options.connect_timeout
        self._command = options.command
        self._creation = options.creations.get(host.name, "")
        self._lock = threading.Lock()
        self.opening: Deadline | None = None

    def log_in(self, begin: Callable[[], bool], *, can_create: bool = True) -> EstablishedLogin | None:
        """Log in and start the agent or command. Return None if ``begin()`` is False. Raises TransportError.

        The container of the host is created only if ``can_create``: during a run, a new one has nothing of the run.
        """
        if not can_create:
            self._creation = ""
        self._places.acquire()
        place = LoginSlot(self._places)
        try:
            login = self._open_channel(place) if begin() else None
            if login is not None:
                self._host = note_engine(self._host, login.decoder.hello)
            return login
        finally:
            place.release()

    def _open_channel(self, place: LoginSlot) -> EstablishedLogin:
        deadline = Deadline(self._timeout)
        deadline.close_on_expiry(place.release)
        self.opening = deadline
        nonce = secrets.token_hex(8)
        decoder = protocol.FrameDecoder(self._host.name, nonce, self._clock)
        try:
            command = self._build_command(nonce)
            channel = self._transport(self._host).open(self._host, command, deadline)
            events = [] if self._command else run_handshake(self._host, channel, decoder, deadline)
            login_output = [event for event in events if isinstance(event, LoginOutput)]
            return EstablishedLogin(
                channel=channel, decoder=decoder, login_output=login_output, early=events[len(login_output) :]
            )
        except TransportError as error:
            if deadline.has_expired and not isinstance(error, AgentRefused) and not error.timed_out:
                raise Unreachable(
                    f"the login did not finish within {deadline.seconds:g} s ({error})",
                    hint=error.hint or "raise --connect-timeout",
                ) from None
            raise
        finally:
            deadline.mark_done()
            with self._lock:
                if self.opening is deadline:
                    self.opening = None

    def _build_command(self, nonce: str) -> str:
        """Return the command line for the login shell of the host."""
        host, agent = self._host, bundle.build_command(nonce, self._host.python or "python3")
        if not host.container:
            return self._command or agent
        if self._command:
            return container_entry.build_command_entry(host, self._command, self._creation)
        return container_entry.build_agent_entry(host, agent, self._creation)

    def take_overdue(self) -> Deadline | None:
        """Return the deadline of an overdue login. Close it in a thread, because closing may wait for a process."""
        opening = self.opening
        return opening if opening is not None and opening.is_overdue else None

    def take_hung(self) -> TransportError | None:
        """Return, once, the error of a login that continues although its connection was closed."""
        with self._lock:
            opening = self.opening
            if opening is None or not opening.has_expired or time.monotonic() < opening.at + HUNG_SECONDS:
                return None
            self.opening = None
        what = f": it still waits for {opening.doing}" if opening.doing else ""
        return Unreachable(
            f"the login did not finish within {opening.seconds:g} s{what}", hint="raise --connect-timeout"
        )
