"""Connection pool: the connections to all hosts, and the one event queue that they, the clock and signals fill.

The queue itself has no limit. Each connection may have only a limited number of log chunks and messages in it, so a
flood is held back on its host.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from fanout.agent import bundle
from fanout.model.actions import Abandon, Action, Go, Inspect, Kill, Prepare, Release, Save, Stop
from fanout.model.events import ActionSent, Chunk, Event, HostLost, Tick
from fanout.model.hosts import Host
from fanout.model.plan import LaunchPlan
from fanout.remote import protocol
from fanout.remote.connection import Connection
from fanout.remote.login import ConnectionOptions
from fanout.remote.transports.base import Transport

CLOSE_SECONDS = 5.0  # for all connections together


class Clock:
    """A clock in seconds that looks like Unix time, never jumps back, and counts the time in suspend.

    It reads the wall clock once, and then a monotonic clock.
    """

    def __init__(self) -> None:
        #: clock_gettime(2): in suspend, Linux's CLOCK_MONOTONIC stops and CLOCK_BOOTTIME continues; macOS's continues
        self._kind = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        self._offset = time.time() - time.clock_gettime(self._kind)

    def __call__(self) -> float:
        return time.clock_gettime(self._kind) + self._offset


class ConnectionPool:
    """The connections to all hosts, and the one event queue."""

    def __init__(
        self, hosts: Sequence[Host], transport: Callable[[Host], Transport], options: ConnectionOptions, clock: Clock
    ) -> None:
        self.clock = clock
        self._queue: SimpleQueue[Event] = SimpleQueue()
        self._over = threading.Event()
        self._heartbeat_seconds = options.heartbeat_seconds
        self._sends_agent = not options.command
        self._by = options.by
        dials = threading.Semaphore(options.dials)
        self.connections = {
            host.name: Connection(host, transport, options, self._queue.put, clock, dials) for host in hosts
        }
        self._pending: Chunk | None = None
        self.is_observer = (
            False  # True: another launcher owns the run, so this one must not delete its files on the hosts
        )

    def start(self) -> None:
        for link in self.connections.values():
            link.start()
        if self._sends_agent:
            bundle.pack_agent()  # build it once here; otherwise many connections would build it at the same time
        threading.Thread(target=self._run_clock, name="clock", daemon=True).start()

    def post_event(self, event: Event) -> None:
        """Add an event of the launcher itself, such as a signal. Safe in a signal handler."""
        self._queue.put(event)

    def next_event(self, timeout: float) -> Event:
        """Return the next event, or Tick if none arrives within ``timeout`` seconds."""
        if self._pending is not None:  # the caller has processed the previous chunk
            link = self.connections[self._pending.host]
            if self.is_observer:
                link.backlog.mark_processed()
            else:
                link.acknowledge_chunk(self._pending)
            self._pending = None
        try:
            event = self._queue.get(timeout=timeout)
        except Empty:
            return Tick(at=self.clock())
        if isinstance(event, Chunk):
            self._pending = event
        elif isinstance(event, protocol.LIMITED_EVENTS):
            self.connections[event.host].messages.mark_processed()
        return event

    def send_question(self, host: str, number: int, what: str, args: Mapping[str, Any], timeout: float) -> float | None:
        """Send a question. Return when its connection was made, None if the host has no connection."""
        return self.connections[host].send_question(number, what, args, timeout)

    def send_input(self, host: str, frame: bytes) -> None:
        """Send bytes for the input of an open question."""
        self.connections[host].send_frame(frame, bound=True)

    def cancel_question(self, host: str, number: int) -> None:
        self.connections[host].cancel_question(number)

    def carry_out(self, action: Action, plan: LaunchPlan | None) -> list[Event]:
        """Carry out ``action``. Return the events that record it; the caller applies them at once."""
        link = self.connections[action.host]
        events: list[Event] = [ActionSent(at=self.clock(), action=action)]
        match action:
            case Prepare():
                assert plan is not None
                link.send_prepare(plan)
            case Go():
                link.send_go()
            case Stop() if not self._sends_agent:
                link.end_command()
            case Stop():
                link.send_frame(protocol.stop_frame(action, self._by), order=True)
            case Save():
                link.send_frame(protocol.save_frame(action.signal, sends=action.sends), order=True)
            case Kill():
                link.send_frame(protocol.KILL, order=True)
            case Release():
                link.send_last_frame(protocol.DISCONNECT if self.is_observer else protocol.RELEASE)
            case Inspect():
                assert plan is not None
                link.send_question(action.ask, action.what, *protocol.inspection_request(plan, action))
            case Abandon():
                link.close()
                events.append(HostLost(at=self.clock(), host=action.host, why=action.why))
        return events

    def close(self) -> None:
        """Close all connections at the same time. Do not wait longer than the common deadline."""
        self._over.set()
        for link in self.connections.values():
            link.close()
        until = time.monotonic() + CLOSE_SECONDS
        for link in self.connections.values():
            link.wait_closed(until)

    def _run_clock(self) -> None:
        """Send heartbeats and enforce the deadlines of logins.

        The heartbeats are spread over their interval. Threads of all hosts that wake at one moment only wait for each other.
        """
        every, links = self._heartbeat_seconds, list(self.connections.values())
        due_at = [time.monotonic() + every * (at + 1) / len(links) for at in range(len(links))]
        while not self._over.wait(0.25):
            now = time.monotonic()
            for at, link in enumerate(links):
                link.check_deadline()
                if now >= due_at[at]:
                    due_at[at] += every * (1 + (now - due_at[at]) // every)
                    link.send_heartbeat()
