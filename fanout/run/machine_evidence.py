"""Evidence of the machines after a failure: the own agents of hosts in containers read the kernel log.

It comes after the end of the run, because the kernel log stays. So no host of the run waits for it.
"""

from __future__ import annotations

from fanout.checks.engine.machine_facts import list_container_hosts
from fanout.model.container_events import MachineExamined
from fanout.model.rpc import ProbeRequest
from fanout.run.machine_agents import open_machine_agents
from fanout.run.run_context import RunContext
from fanout.run.session import Session

_SECONDS, _WITHIN = 5.0, 5.0  # the connection's own time is added to the second
_SECTIONS = ("kernel", "journal")


def examine_machines(context: RunContext, session: Session) -> None:
    """Ask the machines of all started hosts in containers, and add each answer as an event of the session."""
    state = session.state
    began = {host.name: host.started_at for host in state.all_hosts if host.started_at is not None}
    hosts = [host for host in list_container_hosts(context.hosts) if host.name in began]
    if not hosts or state.interrupts:
        return
    asks = [
        ProbeRequest(
            host=host.name,
            what="aftermath",
            args={"sections": list(_SECTIONS), "since": state.now - began[host.name]},
            timeout=_SECONDS,
            within=_WITHIN,
        )
        for host in hosts
    ]
    with open_machine_agents(context, session) as agents:
        agents.post(asks)
        for ask, answer in zip(asks, agents.take_answers(), strict=True):
            event = MachineExamined(at=session.state.now, host=ask.host, value=answer.value, error=answer.error)
            session.add_event(event)
