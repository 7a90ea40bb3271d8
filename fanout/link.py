"""Reconnecting connection to one host: log in, start the agent, and turn received bytes into events.

If the connection breaks during a run, it reconnects and continues at the same byte of the log. It decides nothing else:
it carries out actions and reports events. One thread reads and one writes, so neither a silent peer nor a full pipe
blocks the other direction.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from fanout import bare, wire
from fanout.backlog import Backlog
from fanout.errors import Dropped, TransportError, Unreachable
from fanout.events import (
    Chunk,
    Dialling,
    Event,
    Forgotten,
    Gone,
    Linked,
    LinkLost,
    Lost,
    Refused,
    Trimmed,
    Unreached,
)
from fanout.hosts import Host
from fanout.login import BEAT_SECONDS, Dialled, Dialler, FanOptions
from fanout.plan import LaunchPlan
from fanout.sender import Connection, Sender
from fanout.tally import Arrived, Receipts
from fanout.transports.base import Channel, Transport

SILENT_SECONDS = 15.0  # three heartbeats of the agent
MESSAGES_IN_QUEUE = 64
CHUNKS_IN_QUEUE = 8  # 2 MB a host, as much again as paramiko holds
REDIAL_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)


class Link:
    """The connection to one host."""

    def __init__(
        self,
        host: Host,
        transport: Callable[[Host], Transport],
        options: FanOptions,
        post: Callable[[Event], None],
        clock: Callable[[], float],
        dials: threading.Semaphore,
    ) -> None:
        self.host = host
        self._dialler = Dialler(host, transport, options, clock, dials)
        self._options = options
        self._post = post
        self._clock = clock
        self._lock = threading.Lock()
        self._wake_dialler = threading.Event()
        self._sender = Sender()
        self._was_linked = False
        self._turn = 0  # number of the thread that logs in; a thread that hangs is replaced, and its result is ignored
        self._receipts = Receipts()
        self._over = False
        self._closing: threading.Thread | None = None
        self._plan: LaunchPlan | None = None
        self._attach_only = False
        self._arrived = Arrived()
        self.backlog = Backlog(CHUNKS_IN_QUEUE)
        self.messages = Backlog(MESSAGES_IN_QUEUE)

    # -- from the main thread

    def start(self) -> None:
        self._thread("link", self._live)
        if not self._options.command:  # nothing is written to a plain command
            self._thread("writer", self._sender.run)

    def send(self, frame: bytes, *, order: bool = False) -> None:
        """Queue a frame; without a connection it waits for the next. An order is sent again on every later one."""
        self._sender.put(frame, order=order)

    def ask(self, number: int, what: str, args: Mapping[str, Any], timeout: float) -> float | None:
        """Send a question on the present connection. Return when that was made, None if there is none."""
        return self._sender.ask(number, what, wire.ask_frame(number, what, args, timeout))

    def cancel(self, number: int) -> None:
        """Cancel a question."""
        self._sender.cancel(number, wire.cancel_frame(number))

    def prepare(self, plan: LaunchPlan) -> None:
        """Send Prepare. From here on a broken connection is made again, because the host has a part of the run."""
        self._plan = plan
        node = plan.node(self.host.name)
        self.send(wire.prepare_frame(plan, node, by=self._options.by, cursors=self._arrived.sizes), order=True)

    def forget(self, farewell: bytes) -> None:
        """Queue the last frame for this host."""
        self._sender.bid_farewell(farewell)

    def resume(self, plan: LaunchPlan, have: Mapping[int, tuple[int, int]]) -> None:
        """Resume a run of another launcher. Call it before ``start``; ``have`` is (size, CRC-32) of each stream."""
        self._plan = plan
        self._attach_from_now_on()
        self._arrived = Arrived(have)

    def go(self) -> None:
        assert self._plan is not None
        self._attach_from_now_on()  # whether Go arrives or not, the host must never prepare a second time
        self.send(wire.go_frame(self._plan.node(self.host.name)), order=True)

    def _attach_from_now_on(self) -> None:
        self._attach_only = True
        self._sender.attach_from_now_on()

    def beat(self) -> None:
        """Send a heartbeat, unless frames already wait to be sent."""
        if not self._options.command and self._sender.is_idle():
            self._sender.put(self._receipts.beat())

    def dealt_with(self, chunk: Chunk) -> None:
        """Make room for one more chunk, and acknowledge this one, so that the host may delete it."""
        self.backlog.dealt()
        receipt = self._receipts.dealt_with(chunk)
        if receipt and self._plan is not None:
            self.send(receipt)

    def check_deadline(self) -> None:
        """End a login whose deadline has passed. The clock's thread calls this, so it never blocks."""
        overdue = self._dialler.take_overdue()
        if overdue is not None:
            threading.Thread(target=overdue.check, name=f"deadline {self.host.name}", daemon=True).start()
        hung = self._dialler.take_hung()
        if hung is not None and not self._over:
            with self._lock:
                self._turn += 1
                turn = self._turn
            self._thread("link", lambda: self._live(turn, hung))

    def end_command(self) -> None:
        """End a plain command. This runs in a thread, because a write to a dead connection may block."""
        channel = self._sender.channel
        if channel is not None:
            self._thread("end", lambda: _end_command(channel))

    def close(self) -> None:
        """Stop connecting and reading. What runs on the host is not affected."""
        self._over = True
        channel = self._sender.close()
        self._wake_dialler.set()
        self.backlog.abandon()
        self.messages.abandon()
        if channel is not None:  # closing may wait for a child that hangs, so a thread does it for each connection
            self._closing = threading.Thread(target=channel.close, name=f"closing {self.host.name}", daemon=True)
            self._closing.start()

    def wait_closed(self, until: float) -> None:
        """Wait for the end of the channel, at most until this moment of monotonic time."""
        if self._closing is not None:
            self._closing.join(max(0.0, until - time.monotonic()))

    def _thread(self, what: str, work: Callable[[], None]) -> None:
        """Start a thread that reports an unexpected exception as Lost. Otherwise the run would wait without end."""

        def guarded() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - every fault is reported
                where = traceback.extract_tb(error.__traceback__)[-1]
                why = f"internal error in fanout ({type(error).__name__}: {error}, {where.filename}:{where.lineno})"
                self._post(Lost(at=self._clock(), host=self.host.name, why=why))
                self.close()

        threading.Thread(target=guarded, name=f"{what} {self.host.name}", daemon=True).start()

    # -- the reader's thread

    def _live(self, turn: int = 0, hung: TransportError | None = None) -> None:
        """Connect, read, and reconnect. ``hung`` is why the thread before this one did not return from its login."""
        attempt = 1 if hung is not None else 0
        began = time.monotonic()
        if hung is not None and not self._again(hung, attempt, began - self._options.connect_timeout):
            return
        while not self._over:
            attempt += 1
            try:
                dialled = self._dial(attempt, turn)
            except Exception as error:
                if turn != self._turn:
                    return
                if not isinstance(error, TransportError):
                    raise
                if not self._again(error, attempt, began):
                    return
                continue
            if dialled is None:
                return
            why = self._follow(dialled.channel, dialled.decoder, dialled.early)
            if self._over or why is None:
                return
            attempt = 0
            self._post(LinkLost(at=self._clock(), host=self.host.name, why=why))
            began = time.monotonic()

    def _again(self, error: TransportError, attempt: int, began: float) -> bool:
        """Wait, and return whether to connect again.

        During a run the answer is always yes, because only the policy gives a host up. Before a run it is yes only after
        a dropped connection.
        """
        before = self._plan is None
        dropped = isinstance(error, Dropped) or self._was_linked
        if before and (not dropped or time.monotonic() - began > self._options.connect_timeout):
            self._unreached(error)
            return False
        pause = random.uniform(0.2, 0.6) * attempt if before else REDIAL_SECONDS[min(attempt, len(REDIAL_SECONDS)) - 1]
        self._wake_dialler.wait(pause)
        return not self._over

    def _unreached(self, error: TransportError) -> None:
        if not self._over:
            kind = type(error).__name__
            self._post(Unreached(at=self._clock(), host=self.host.name, kind=kind, message=str(error), hint=error.hint))

    def _dial(self, attempt: int, turn: int) -> Dialled | None:
        """Log in, within the limit of parallel logins. Return None if ``close`` was called. Raises TransportError."""

        def begin() -> bool:
            if not self._over:
                self._post(Dialling(at=self._clock(), host=self.host.name, attempt=attempt))
            return not self._over

        began = time.monotonic()
        dialled = self._dialler.dial(begin)
        if dialled is None:
            return None
        connection = Connection(channel=dialled.channel, decoder=dialled.decoder, made_at=self._clock())
        if not self._take_up(connection, turn):
            dialled.channel.close()
            raise Unreachable("the login came too late")
        for event in dialled.noise:  # before Linked: the check reads it as soon as all hosts are connected
            self._post(event)
        hello = {**dialled.decoder.hello, "peer": dialled.channel.peer}
        took = time.monotonic() - began
        self._post(Linked(at=connection.made_at, host=self.host.name, attempt=attempt, took=took, hello=hello))
        return dialled

    def _take_up(self, connection: Connection, turn: int) -> bool:
        """Use this connection from now on. Return False if another thread has replaced this one."""
        with self._lock:
            if turn != self._turn:
                return False
            self._was_linked = True
            self._sender.connect(connection, self._attach_frame)
        return True

    def _attach_frame(self) -> bytes:
        """Return the first frame of a new connection if the host has the run already, else b""."""
        if self._plan is None or not self._attach_only:
            return b""
        node = self._plan.node(self.host.name)
        return wire.attach_frame(self._plan.run_id, node.rank, node.mark, self._arrived.sizes)

    def _follow(self, channel: Channel, decoder: wire.Decoder, early: list[Event]) -> str | None:
        """Read until the connection ends. Return the reason, or None if the host's part is over."""
        if self._options.command:
            bare.follow(self.host, channel, self._clock, self._hand_on_bare)
            self._broken(channel, "")  # close it here; a close at the end would need a thread for every host
            return None
        heard = time.monotonic()
        events: Iterable[Event] = early
        try:
            while True:
                for event in events:
                    if self._hand_on(event, decoder):
                        channel.close()
                        return None
                data = channel.read(BEAT_SECONDS)
                if self._over:
                    return None
                if data == b"":
                    return self._broken(channel, channel.said or "the connection was closed")
                if data is None:
                    if time.monotonic() - heard > SILENT_SECONDS:
                        return self._broken(channel, f"silent for {SILENT_SECONDS:g} s")
                    events = []
                    continue
                heard = time.monotonic()
                events = decoder.each(data)
        except OSError as error:
            return self._broken(channel, str(error) or type(error).__name__)
        except wire.BadHost as error:
            self._post(Lost(at=self._clock(), host=self.host.name, why=f"the host {error}"))
            self._broken(channel, "")
            return None

    def _broken(self, channel: Channel, why: str) -> str:
        self._sender.disconnect()
        channel.close()
        return why

    def _hand_on(self, event: Event, decoder: wire.Decoder) -> bool:
        """Post one event of the agent. Return True after the last one."""
        match event:
            case Chunk():
                fresh = self._arrived.fresh(event)
                if fresh is None:
                    return False
                event = fresh
                self.backlog.add()
            case Trimmed():
                self._arrived.sizes[event.stream] = event.upto
            case Gone():
                event = replace(event, whole=self._arrived.whole(decoder.totals))
                self._sender.repeat_farewell()
            case Refused(kind="no-run") if self._attach_only:
                why = "nothing of the run is left on the host: it was rebooted or cleaned"
                self._post(Lost(at=self._clock(), host=self.host.name, why=why))
                return True
            case _:
                pass
        if isinstance(event, wire.SAID):
            self.messages.add()
        self._post(event)
        return isinstance(event, (Forgotten, Refused))

    def _hand_on_bare(self, event: Event) -> bool:
        """Post one event of a plain command. Return True if no more events are wanted."""
        if isinstance(event, Chunk):
            self.backlog.add()
        elif isinstance(event, wire.SAID):
            self.messages.add()
        if not self._over:
            self._post(event)
        return self._over


def _end_command(channel: Channel) -> None:
    with contextlib.suppress(OSError):  # the connection broke: the reader reports it
        channel.end_command()
