"""Reconnecting connection to one host: log in, start the agent, and turn received bytes into events.

If the connection breaks during a run, it reconnects and continues at the same byte of the log. It decides nothing else:
it carries out actions and reports events. One thread reads and one writes, so neither a silent peer nor a full pipe
blocks the other direction.
"""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from fanout.model.errors import Dropped, TransportError, Unreachable
from fanout.model.events import (
    Chunk,
    CleanedUp,
    Connected,
    ConnectFailed,
    Connecting,
    Disconnected,
    Event,
    HostLost,
    LogTruncated,
    Refused,
    Released,
)
from fanout.model.hosts import Host
from fanout.model.plan import LaunchPlan
from fanout.remote import container_entry, plain_exec, protocol, reconnection
from fanout.remote.backpressure import ChunkLimiter
from fanout.remote.login import ConnectionOptions, EstablishedLogin, LoginRunner
from fanout.remote.offsets import Acknowledgements, ReceivedOffsets
from fanout.remote.sender import ActiveChannel, FrameSender
from fanout.remote.transports.base import Channel, Transport

SILENT_SECONDS = 15.0  # more than two heartbeats of the agent
MESSAGES_IN_QUEUE = 64
RECONNECT_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)


class Connection:
    """The connection to one host."""

    def __init__(
        self,
        host: Host,
        transport: Callable[[Host], Transport],
        options: ConnectionOptions,
        post: Callable[[Event], None],
        clock: Callable[[], float],
        dials: threading.Semaphore,
    ) -> None:
        self.host = host
        self._login_runner = LoginRunner(host, transport, options, clock, dials)
        self._options = options
        self._post = post
        self._clock = clock
        self._lock = threading.Lock()
        self._wake_login = threading.Event()
        self._sender = FrameSender()
        self._was_connected = False
        self._errors = reconnection.ReconnectionErrors(host.name)
        self._turn = 0  # number of the thread that logs in; a thread that hangs is replaced, and its result is ignored
        self._receipts = Acknowledgements()
        self._over = False
        self._closing: threading.Thread | None = None
        self._plan: LaunchPlan | None = None
        self._attach_only = False
        self._arrived = ReceivedOffsets()
        self.backlog = ChunkLimiter(options.chunks)
        self.messages = ChunkLimiter(MESSAGES_IN_QUEUE)

    # -- from the main thread

    def start(self) -> None:
        self._start_thread("link", self._run_reader)
        if not self._options.command:  # nothing is written to a plain command
            self._start_thread("writer", self._sender.run)

    def send_frame(self, frame: bytes, *, order: bool = False, bound: bool = False) -> None:
        """Queue a frame; without a connection it waits for the next, or is dropped if ``bound``. An order is repeated."""
        self._sender.put_frame(frame, order=order, bound=bound)

    def send_question(self, number: int, what: str, args: Mapping[str, Any], timeout: float) -> float | None:
        """Send a question on the present connection. Return when that was made, None if there is none."""
        return self._sender.put_question(number, what, protocol.ask_frame(number, what, args, timeout))

    def cancel_question(self, number: int) -> None:
        """Cancel a question."""
        self._sender.cancel_question(number, protocol.cancel_frame(number))

    def send_prepare(self, plan: LaunchPlan) -> None:
        """Send Prepare. From here on a broken connection is made again, because the host has a part of the run."""
        self._plan = plan
        node = plan.node_of(self.host.name)
        self.send_frame(
            protocol.prepare_frame(plan, node, by=self._options.by, cursors=self._arrived.sizes), order=True
        )

    def send_last_frame(self, frame: bytes) -> None:
        """Queue the last frame for this host."""
        self._sender.put_last_frame(frame)

    def resume_run(self, plan: LaunchPlan, have: Mapping[int, tuple[int, int]]) -> None:
        """Resume a run of another launcher. Call it before ``start``; ``have`` is (size, CRC-32) of each stream."""
        self._plan = plan
        self._switch_to_attach()
        self._arrived = ReceivedOffsets(have)

    def get_received(self) -> Mapping[int, tuple[int, int]]:
        """Return (size, CRC-32) of each stream so far, for a later connection that continues there."""
        return self._arrived.progress

    def send_go(self) -> None:
        assert self._plan is not None
        self._switch_to_attach()  # whether Go arrives or not, the host must never prepare a second time
        self.send_frame(protocol.go_frame(self._plan.node_of(self.host.name)), order=True)

    def _switch_to_attach(self) -> None:
        self._attach_only = True
        self._sender.switch_to_attach()

    def send_heartbeat(self) -> None:
        """Send a heartbeat, unless frames already wait to be sent."""
        if not self._options.command and self._sender.is_idle():
            self._sender.put_frame(self._receipts.build_heartbeat())

    def acknowledge_chunk(self, chunk: Chunk) -> None:
        """Make room for one more chunk, and acknowledge this one, so that the host may delete it."""
        self.backlog.mark_processed()
        receipt = self._receipts.acknowledge_chunk(chunk)
        if receipt and self._plan is not None:
            self.send_frame(receipt)

    def check_deadline(self) -> None:
        """End a login whose deadline has passed. The clock's thread calls this, so it never blocks."""
        overdue = self._login_runner.take_overdue()
        if overdue is not None:
            threading.Thread(target=overdue.close_if_overdue, name=f"deadline {self.host.name}", daemon=True).start()
        hung = self._login_runner.take_hung()
        if hung is not None and not self._over:
            with self._lock:
                self._turn += 1
                turn = self._turn
            self._start_thread("link", lambda: self._run_reader(turn, hung))

    def end_command(self) -> None:
        """End a plain command. This runs in a thread, because a write to a dead connection may block."""
        channel = self._sender.channel
        if channel is not None:
            self._start_thread("end", lambda: plain_exec.end_command(self.host, channel))

    def close(self) -> None:
        """Stop connecting and reading. What runs on the host is not affected."""
        self._over = True
        channel = self._sender.close()
        self._wake_login.set()
        self.backlog.stop_waiting()
        self.messages.stop_waiting()
        if channel is not None:  # closing may wait for a child that hangs, so a thread does it for each connection
            self._closing = threading.Thread(target=channel.close, name=f"closing {self.host.name}", daemon=True)
            self._closing.start()

    def wait_closed(self, until: float) -> None:
        """Wait for the end of the channel, at most until this moment of monotonic time."""
        if self._closing is not None:
            self._closing.join(max(0.0, until - time.monotonic()))

    def _start_thread(self, what: str, work: Callable[[], None]) -> None:
        """Start a thread that reports an unexpected exception as Lost. Otherwise the run would wait without end."""

        def guarded() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - every fault is reported
                where = traceback.extract_tb(error.__traceback__)[-1]
                why = f"internal error in fanout ({type(error).__name__}: {error}, {where.filename}:{where.lineno})"
                self._post(HostLost(at=self._clock(), host=self.host.name, why=why, reason="internal-error"))
                self.close()

        threading.Thread(target=guarded, name=f"{what} {self.host.name}", daemon=True).start()

    # -- the reader's thread

    def _run_reader(self, turn: int = 0, hung: TransportError | None = None) -> None:
        """Connect, read, and reconnect. ``hung`` is why the thread before this one did not return from its login."""
        attempt = 1 if hung is not None else 0
        began = time.monotonic()
        if hung is not None and not self._wait_to_retry(hung, attempt, began - self._options.connect_timeout):
            return
        while not self._over:
            attempt += 1
            try:
                login = self._connect_once(attempt, turn)
            except Exception as error:
                if turn != self._turn:
                    return
                if not isinstance(error, TransportError):
                    raise
                if not self._wait_to_retry(error, attempt, began):
                    return
                continue
            broken = self._read_events(login.channel, login.decoder, login.early) if login is not None else None
            if self._over or broken is None:
                return
            attempt, began = 0, time.monotonic()
            self._post(broken)

    def _wait_to_retry(self, error: TransportError, attempt: int, began: float) -> bool:
        """Wait, and return whether to connect again.

        During a run the answer is always yes, because only the policy gives a host up. Before a run it is yes only after
        a dropped connection.
        """
        before = self._plan is None
        dropped = isinstance(error, Dropped) or self._was_connected
        if before and (not dropped or time.monotonic() - began > self._options.connect_timeout):
            fields = {"kind": type(error).__name__, "message": str(error), "hint": error.hint}
            self._post_unless_over(ConnectFailed(at=self._clock(), host=self.host.name, **fields))
            pause = self._options.retry_seconds if isinstance(error, Unreachable) else 0.0
            return bool(pause) and not self._wake_login.wait(pause * random.uniform(0.8, 1.2))
        if not before and (event := self._errors.explain_error(error, attempt, self._clock())):
            self._post_unless_over(event)
            if isinstance(event, HostLost):
                return False
        longest = RECONNECT_SECONDS[min(attempt, len(RECONNECT_SECONDS)) - 1]
        self._wake_login.wait(random.uniform(0.2, 0.6) * attempt if before else longest)
        return not self._over

    def _post_unless_over(self, event: Event) -> None:
        if not self._over:
            self._post(event)

    def _connect_once(self, attempt: int, turn: int) -> EstablishedLogin | None:
        """Log in, within the limit of parallel logins. Return None if ``close`` was called. Raises TransportError."""

        def begin() -> bool:
            self._post_unless_over(Connecting(at=self._clock(), host=self.host.name, attempt=attempt))
            return not self._over

        began = time.monotonic()
        login = self._login_runner.log_in(begin, can_create=self._plan is None)
        if login is None:
            return None
        connection = ActiveChannel(channel=login.channel, decoder=login.decoder, made_at=self._clock())
        if not self._adopt_channel(connection, turn):
            login.channel.close()
            raise Unreachable("the login came too late")
        for event in login.login_output:  # before Linked: the check reads it as soon as all hosts are connected
            self._post(event)
        hello = {**login.decoder.hello, "peer": login.channel.peer, "container": self.host.container or ""}
        took = time.monotonic() - began
        self._post(Connected(at=connection.made_at, host=self.host.name, attempt=attempt, took=took, hello=hello))
        return login

    def _adopt_channel(self, connection: ActiveChannel, turn: int) -> bool:
        """Use this connection from now on. Return False if another thread has replaced this one, or after ``close``."""
        with self._lock:
            if turn != self._turn:
                return False
            self._was_connected = True
            self._sender.use_channel(connection, self._build_attach_frame)
        return not self._over  # after ``use_channel``: a ``close`` before it found no channel to close

    def _build_attach_frame(self) -> bytes:
        """Return the first frame of a new connection if the host has the run already, else b""."""
        if self._plan is None or not self._attach_only:
            return b""
        node = self._plan.node_of(self.host.name)
        return protocol.attach_frame(self._plan.run_id, node.rank, node.process_mark, self._arrived.sizes)

    def _read_events(self, channel: Channel, decoder: protocol.FrameDecoder, early: list[Event]) -> Disconnected | None:
        """Read until the connection ends. Return the event of its end, or None if the host's part is over."""
        if self._options.command:
            plain_exec.follow_command(self.host, channel, self._clock, self._post_command_event)
            self._close_broken(channel, "")  # close it here; a close at the end would need a thread for every host
            return None
        last_data_at = time.monotonic()
        events: Iterable[Event] = early
        try:
            while True:
                for event in events:
                    if self._post_agent_event(event, decoder):
                        channel.close()
                        return None
                data = channel.read(max(0.1, last_data_at + SILENT_SECONDS - time.monotonic()))
                if self._over:
                    return None
                if data == b"":
                    return self._close_broken(channel, container_entry.explain_end(self.host, channel.last_stderr))
                if data is None:
                    if time.monotonic() - last_data_at >= SILENT_SECONDS:
                        return self._close_broken(
                            channel, f"silent for {SILENT_SECONDS:g} s", silent_for=SILENT_SECONDS
                        )
                    events = []
                    continue
                last_data_at = time.monotonic()
                events = decoder.iter_events(data)
        except OSError as error:
            return self._close_broken(channel, str(error) or type(error).__name__)
        except protocol.ProtocolError as error:
            why = f"the host {error}"
            self._post(HostLost(at=self._clock(), host=self.host.name, why=why, reason="protocol-error"))
            self._close_broken(channel, "")
            return None

    def _close_broken(self, channel: Channel, why: str, *, silent_for: float = 0.0) -> Disconnected:
        self._sender.drop_channel()
        channel.close()
        return Disconnected(at=self._clock(), host=self.host.name, why=why, silent_for=silent_for)

    def _post_agent_event(self, event: Event, decoder: protocol.FrameDecoder) -> bool:
        """Post one event of the agent. Return True after the last one."""
        match event:
            case Chunk():
                fresh = self._arrived.accept_chunk(event)
                if fresh is None:
                    return False
                event = fresh
                self.backlog.wait_for_place()
            case LogTruncated():
                self._arrived.sizes[event.stream] = event.upto
            case CleanedUp():
                event = replace(event, whole=self._arrived.is_complete(decoder.totals))
                self._sender.repeat_last_frame()
            case Refused(kind="no-run" | "other-version") if self._attach_only:
                self._post(protocol.explain_refused_attach(event))
                return True
            case _:
                pass
        if isinstance(event, protocol.LIMITED_EVENTS):
            self.messages.wait_for_place()
        self._post(event)
        return isinstance(event, (Released, Refused))

    def _post_command_event(self, event: Event) -> bool:
        """Post one event of a plain command. Return True if no more events are wanted."""
        if isinstance(event, Chunk):
            self.backlog.wait_for_place()
        elif isinstance(event, protocol.LIMITED_EVENTS):
            self.messages.wait_for_place()
        self._post_unless_over(event)
        return self._over
