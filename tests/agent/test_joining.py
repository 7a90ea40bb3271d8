"""What a host sees of its own way to the rendezvous: torchrun up, then a socket on MASTER_PORT, told once each."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tests.agent.agents import Agent

pytestmark = pytest.mark.process
WAIT = "while [ ! -e end ]; do sleep 0.05; done"


@pytest.mark.parametrize(
    "role", ["socket.create_server(('127.0.0.1', {port}))", "socket.create_connection(('127.0.0.1', {port}))"]
)
def test_a_socket_on_the_master_port_is_the_rendezvous(state: Path, tmp_path: Path, role: str) -> None:
    """Listening or connected, in a grandchild with a session of its own."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if "server" in role:
            taken.close()
        code = f"import socket, time; s = {role.format(port=port)}; time.sleep(60)"
        with Agent(state) as agent:
            agent.start(f'setsid {sys.executable} -c "{code}" & {WAIT}', tmp_path, port=port)
            assert agent.hear("joined")["how"] == "joined"
            (tmp_path / "end").touch()
            agent.end()


def test_a_torchrun_that_only_waits_is_told_as_such(state: Path, tmp_path: Path) -> None:
    (tmp_path / "torchrun").write_text("sleep 60\n")
    with Agent(state) as agent:
        agent.start(f"bash ./torchrun & {WAIT}", tmp_path, port=1)
        assert agent.hear("joined")["how"] == "waiting"
        (tmp_path / "end").touch()
        agent.end()
        assert [message["how"] for message in agent.heard if message["t"] == "joined"] == ["waiting"]
