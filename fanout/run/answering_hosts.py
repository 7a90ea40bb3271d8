"""Answering hosts: which of the hosts that a run lost earlier accept a connection again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fanout.model.events import Tick
from fanout.model.hosts import Host
from fanout.model.state import Phase
from fanout.run.connections import SignalRouter, open_connections
from fanout.run.launch import Launch
from fanout.run.session import Session

LONGEST_SECONDS = 10.0  # a host that does not answer in this time is used at a later restart
STEP_SECONDS = 0.1
EVENTS_AT_ONCE = 500


def find_answering_hosts(launch: Launch, hosts: Sequence[Host]) -> frozenset[str]:
    """Return the names of the hosts that answer. Meanwhile ``launch`` keeps its own hosts, and an interrupt ends the wait."""
    settings = replace(launch.settings, connect_timeout=min(launch.settings.connect_timeout, LONGEST_SECONDS))
    context = replace(launch.context, hosts=tuple(hosts), spares=(), settings=settings)
    began_at = launch.session.state.now
    with open_connections(context, router=SignalRouter()) as pool:  # signals stay with the launch
        session = Session(pool, context.host_names, [])
        while any(host.phase in (Phase.WAITING, Phase.CONNECTING) for host in session.state.all_hosts):
            if not launch.wait(STEP_SECONDS) or launch.session.state.now - began_at > LONGEST_SECONDS:
                break
            for _ in range(EVENTS_AT_ONCE):
                if isinstance(session.run_step(0.0), Tick):
                    break
        found = frozenset(host.name for host in session.state.all_hosts if host.phase is Phase.CONNECTED)
        session.release_hosts()
    return found
