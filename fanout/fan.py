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

from fanout import wire
from fanout.agent import bundle
from fanout.events import Acted, Action, Chunk, Event, Examine, Forget, GiveUp, Go, Kill, Lost, Prepare, Stop, Tick
from fanout.hosts import Host
from fanout.link import Link
from fanout.login import FanOptions
from fanout.plan import LaunchPlan
from fanout.transports.base import Transport

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


class Fan:
    """The connections to all hosts, and the one event queue."""

    def __init__(
        self, hosts: Sequence[Host], transport: Callable[[Host], Transport], options: FanOptions, clock: Clock
    ) -> None:
        self.clock = clock
        self._queue: SimpleQueue[Event] = SimpleQueue()
        self._over = threading.Event()
        self._beat = options.beat
        self._sends_agent = not options.command
        dials = threading.Semaphore(options.dials)
        self.links = {host.name: Link(host, transport, options, self._queue.put, clock, dials) for host in hosts}
        self._pending: Chunk | None = None
        self.looking_on = (
            False  # True: another launcher owns the run, so this one must not delete its files on the hosts
        )

    def start(self) -> None:
        for link in self.links.values():
            link.start()
        if self._sends_agent:
            bundle.packed()  # build it once here; otherwise many connections would build it at the same time
        threading.Thread(target=self._tick, name="clock", daemon=True).start()

    def post(self, event: Event) -> None:
        """Add an event of the launcher itself, such as a signal. Safe in a signal handler."""
        self._queue.put(event)

    def next(self, timeout: float) -> Event:
        """Return the next event, or Tick if none arrives within ``timeout`` seconds."""
        if self._pending is not None:  # the caller has processed the previous chunk
            link = self.links[self._pending.host]
            if self.looking_on:
                link.backlog.dealt()
            else:
                link.dealt_with(self._pending)
            self._pending = None
        try:
            event = self._queue.get(timeout=timeout)
        except Empty:
            return Tick(at=self.clock())
        if isinstance(event, Chunk):
            self._pending = event
        elif isinstance(event, wire.SAID):
            self.links[event.host].messages.dealt()
        return event

    def ask(self, host: str, number: int, what: str, args: Mapping[str, Any], timeout: float) -> float | None:
        """Send a question. Return when its connection was made, None if the host has no connection."""
        return self.links[host].ask(number, what, args, timeout)

    def cancel(self, host: str, number: int) -> None:
        self.links[host].cancel(number)

    def do(self, action: Action, plan: LaunchPlan | None) -> list[Event]:
        """Carry out ``action``. Return the events that record it; the caller applies them at once."""
        link = self.links[action.host]
        events: list[Event] = [Acted(at=self.clock(), action=action)]
        match action:
            case Prepare():
                assert plan is not None
                link.prepare(plan)
            case Go():
                link.go()
            case Stop() if not self._sends_agent:
                link.end_command()
            case Stop():
                link.send(wire.stop_frame(action.grace, action.why), order=True)
            case Kill():
                link.send(wire.KILL, order=True)
            case Forget():
                link.forget(wire.LEAVE if self.looking_on else wire.BYE)
            case Examine():
                assert plan is not None
                link.ask(action.ask, action.what, *wire.examination(plan, action))
            case GiveUp():
                link.close()
                events.append(Lost(at=self.clock(), host=action.host, why=action.why))
        return events

    def close(self) -> None:
        """Close all connections at the same time. Do not wait longer than the common deadline."""
        self._over.set()
        for link in self.links.values():
            link.close()
        until = time.monotonic() + CLOSE_SECONDS
        for link in self.links.values():
            link.wait_closed(until)

    def _tick(self) -> None:
        """Send heartbeats and enforce the deadlines of logins."""
        next_beat = time.monotonic() + self._beat
        while not self._over.wait(0.25):
            beat = time.monotonic() >= next_beat
            if beat:
                next_beat = time.monotonic() + self._beat
            for link in self.links.values():
                link.check_deadline()
                if beat:
                    link.beat()
