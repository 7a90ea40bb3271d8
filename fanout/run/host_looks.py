"""Looks at shared hosts: ask all hosts again and again who holds them, over connections that stay open."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from fanout.model.rpc import ProbeRequest
from fanout.model.state import HostState
from fanout.run.connections import SignalRouter, open_connections
from fanout.run.run_context import RunContext
from fanout.run.session import Session
from fanout.sharing.availability import HostAvailability, parse_availability
from fanout.sharing.wait_policy import Look, SettleClock

TIMEOUT = 20.0
RECONNECT_SECONDS = 30.0  # between two attempts to reach hosts that were not reached
#: Failures of a connection that may pass by themselves: a host that restarts, a network that is down.
PASSING = frozenset({"Unreachable", "Dropped", "lost"})


class HostLooks:
    """Connections to all hosts of ``context``. Nothing is claimed or changed on them."""

    def __init__(self, context: RunContext, router: SignalRouter) -> None:
        self._context = context
        self._router = router
        self._stack = ExitStack()
        self._session: Session | None = None
        self._opened_at = 0.0
        self._clock = SettleClock()

    def __enter__(self) -> HostLooks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    @property
    def interrupts(self) -> tuple[int, ...]:
        """Return the signals with which the user ended the wait."""
        return tuple(self._session.state.interrupts) if self._session is not None else ()

    def look(self) -> Look:
        """Ask all hosts once. A host that cannot be asked has the reason."""
        session = self._connect_hosts()
        reached = [host for host in self._context.hosts if session.state.hosts[host.name].connected]
        port, fixed = self._context.settings.master_port, self._context.settings.master_port_given
        asks = [
            ProbeRequest(host=host.name, what="availability", args={"port": port}, timeout=TIMEOUT) for host in reached
        ]
        answers = dict(zip((host.name for host in reached), session.ask(asks), strict=True))
        found = []
        for host in self._context.hosts:
            answer = answers.get(host.name)
            if answer is not None and not answer.error and isinstance(answer.value, Mapping):
                found.append(parse_availability(host, answer.value, port, fixed=fixed))
            else:
                found.append(_explain_silence(session.state.hosts[host.name], answer))
        return self._clock.build_look(found, time.monotonic())

    def wait(self, seconds: float) -> bool:
        """Keep the connections for ``seconds``; return False at once if the user interrupts."""
        return self._session is not None and self._session.wait(seconds)

    def _connect_hosts(self) -> Session:
        """Return the session; connect again if a host is missing and the last attempt is old enough."""
        session = self._session
        if session is not None:
            is_complete = all(host.connected for host in session.state.all_hosts)
            if is_complete or time.monotonic() - self._opened_at < RECONNECT_SECONDS:
                return session
            self._close()
        pool = self._stack.enter_context(open_connections(self._context, router=self._router))
        self._session = session = Session(pool, self._context.host_names, [])
        self._opened_at = time.monotonic()
        session.connect_hosts()
        self._context.print_notices()
        return session

    def _close(self) -> None:
        if self._session is not None:
            self._session.release_hosts()
            self._session = None
        self._stack.close()


def _explain_silence(host: HostState, answer: Any) -> HostAvailability:
    trouble = host.trouble
    if trouble is not None:
        return HostAvailability(host=host.name, trouble=trouble.message, can_heal=trouble.kind in PASSING)
    return HostAvailability(host=host.name, trouble=answer.error if answer is not None else "not connected")
