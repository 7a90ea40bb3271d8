"""Watch of the usage of hosts: ask each host once, fold what it sends, and try unreachable hosts again."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from fanout.hostfile.masking import mask_secrets
from fanout.model.events import (
    Answered,
    Connected,
    ConnectFailed,
    Disconnected,
    Event,
    HostLost,
    Interrupted,
    Tick,
)
from fanout.model.hosts import Host
from fanout.remote.pool import ConnectionPool
from fanout.run.connections import open_connections
from fanout.run.run_context import RunContext
from fanout.sharing.host_usage import HostUsage, Reach, apply_changes, build_usage

EVERY_SECONDS = 2.0
RETRY_SECONDS = 15.0
HEARTBEAT_SECONDS = 10.0  # no run depends on it: it only shows the host that the launcher lives
ANSWER_SECONDS = 7 * 86400.0  # after which the host ends the sampling, and is asked again
STALE_SECONDS = 10.0  # a host that sends no sample for so long hangs
MOST_EVENTS = 4096  # in one round, so that a host that floods cannot stop the view
#: Failures of a connection that may pass by themselves.
PASSING = frozenset({"Unreachable", "Dropped"})


class UsageWatch:
    """The newest usage of all hosts. Nothing is claimed or changed on them."""

    def __init__(self, context: RunContext, pool: ConnectionPool) -> None:
        self._context, self._pool = context, pool
        self._workdirs = {host.name: find_workdir(context, host) for host in context.hosts}
        self._numbers = itertools.count(1)
        self._asked: dict[str, int] = {}  # host -> number of its open question
        self._samples: dict[str, Mapping[str, Any]] = {}
        self._usage = {host.name: HostUsage(host=host.name) for host in context.hosts}
        self.interrupts: list[int] = []

    def read_clock(self) -> float:
        """Return the present Unix time."""
        return self._pool.clock()

    def read_hosts(self) -> list[HostUsage]:
        """Return the usage of all hosts, in file order. One that has stopped sending has the reason."""
        now = self._pool.clock()
        return [
            replace(usage, trouble=f"no answer for {now - usage.at:.0f} s")
            if usage.is_up and usage.at is not None and now - usage.at > STALE_SECONDS
            else usage
            for usage in self._usage.values()
        ]

    @property
    def is_complete(self) -> bool:
        """Return whether each host has sent a sample or cannot be reached."""
        return all(
            usage.at is not None or usage.reach in (Reach.UNREACHABLE, Reach.REFUSED) for usage in self._usage.values()
        )

    def process_event(self, timeout: float) -> Event:
        """Process the next event, or wait ``timeout`` seconds. Return it."""
        event = self._pool.next_event(timeout)
        match event:
            case Interrupted():
                self.interrupts.append(event.signal)
            case Connected():
                self._ask_host(event.host)
            case ConnectFailed():
                reach = Reach.UNREACHABLE if event.kind in PASSING else Reach.REFUSED
                self._set_trouble(event.host, reach, event.message)
            case Disconnected():
                self._set_trouble(event.host, Reach.UNREACHABLE, f"connection lost: {event.why}")
            case HostLost():
                self._set_trouble(event.host, Reach.REFUSED, event.why)
            case Answered() if event.ask == self._asked.get(event.host):
                self._process_answer(event)
            case _:
                pass
        return event

    def process_arrived(self) -> None:
        """Process what has arrived. One wake for the samples of all hosts costs less than one for each."""
        for _ in range(MOST_EVENTS):
            if isinstance(self.process_event(0.0), Tick):
                return

    def _ask_host(self, host: str) -> None:
        number = self._asked[host] = next(self._numbers)
        args = {"every": EVERY_SECONDS, "workdir": self._workdirs[host], "venv": ""}
        self._pool.send_question(host, number, "usage", args, ANSWER_SECONDS)

    def _process_answer(self, event: Answered) -> None:
        if event.error:
            self._set_trouble(event.host, Reach.UNREACHABLE, event.error)
            if event.reason == "timeout":
                self._ask_host(event.host)
            return
        sample = self._samples[event.host] = apply_changes(self._samples.get(event.host, {}), event.value)
        self._usage[event.host] = build_usage(event.host, sample, event.at, hide_secrets)

    def _set_trouble(self, host: str, reach: Reach, why: str) -> None:
        """Show a host as a row without values, because old ones would be wrong."""
        self._samples.pop(host, None)
        self._asked.pop(host, None)
        self._usage[host] = HostUsage(host=host, reach=reach, trouble=why)


@functools.lru_cache(maxsize=4096)
def hide_secrets(command: str) -> str:
    """Return a command line without its secrets. Each sample has the same command lines, so they are remembered."""
    return mask_secrets(command).text


def find_workdir(context: RunContext, host: Host) -> str:
    """Return the directory whose disk is measured: the host's, that of --chdir, or this one."""
    return host.workdir or context.settings.chdir or context.process.cwd


@contextmanager
def watch_usage(context: RunContext) -> Iterator[UsageWatch]:
    """Yield the watch of all hosts; close the connections at the end, which ends the sampling on the hosts."""
    with open_connections(context, retry_seconds=RETRY_SECONDS, heartbeat_seconds=HEARTBEAT_SECONDS) as pool:
        yield UsageWatch(context, pool)
