"""Own agents of hosts in containers: they answer over logins of their own, and no interrupt or failed login waits for them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.cli.parser import parse_arguments
from fanout.model.events import Interrupted
from fanout.model.rpc import ProbeRequest
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.run.machine_agents import MachineAgents
from fanout.run.run_context import load_run_context
from fanout.run.session import Session
from tests.process_contexts import build_process

pytestmark = pytest.mark.process
ASK = ProbeRequest(host="a", what="facts", args={"sections": ["identity"]}, timeout=5.0, within=5.0)


@pytest.fixture
def agents_and_pool(tmp_path: Path) -> Iterator[tuple[MachineAgents, ConnectionPool]]:
    """Yield the agents of a host a in a container, beside a session without any connection."""
    (tmp_path / "hosts.txt").write_text(f"a slots=1 container=work python={tmp_path}/none\n")
    request = parse_arguments(["check", "--transport", "local", str(tmp_path / "hosts.txt")])
    context = load_run_context(request, build_process(tmp_path, io.StringIO()))
    pool = ConnectionPool([], context.selector, ConnectionOptions(), Clock())
    agents = MachineAgents(context, Session(pool, [], []))
    yield agents, pool
    agents.close()
    pool.close()


def test_agent_of_the_machine_answers_without_the_container(
    agents_and_pool: tuple[MachineAgents, ConnectionPool],
) -> None:
    agents, _ = agents_and_pool
    agents.post([ASK])
    (answer,) = agents.take_answers()
    assert not answer.error
    assert set(answer.value) == {"identity", "clock", "missing", "reasons"}
    assert answer.value["identity"]["pid_namespace"] == os.readlink("/proc/self/ns/pid")


def test_an_interrupt_ends_the_wait_for_the_machines(agents_and_pool: tuple[MachineAgents, ConnectionPool]) -> None:
    agents, pool = agents_and_pool
    pool.post_event(Interrupted(at=pool.clock(), signal=2))
    agents.post([ASK])
    (answer,) = agents.take_answers()
    assert answer.error == "interrupted"
