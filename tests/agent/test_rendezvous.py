"""Rendezvous detection on a host: torchrun is up, then a socket on MASTER_PORT; each is reported once."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tests.agent.agents import Agent

pytestmark = pytest.mark.process
WAIT = "while [ ! -e end ]; do sleep 0.05; done; kill $!"  # the keeper waits for a torchrun in the background


@pytest.mark.parametrize(
    "role", ["socket.create_server(('127.0.0.1', {port}))", "socket.create_connection(('127.0.0.1', {port}))"]
)
def test_a_socket_on_the_master_port_is_the_rendezvous(state: Path, tmp_path: Path, role: str) -> None:
    """Hold a listening or connected socket in a grandchild with its own session."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if "server" in role:
            taken.close()
        code = f"import socket, time; s = {role.format(port=port)}; time.sleep(60)"
        with Agent(state) as agent:
            agent.start_run(f'setsid {sys.executable} -c "{code}" & {WAIT}', tmp_path, port=port)
            assert agent.receive_message("rendezvous_joined")["how"] == "joined"
            (tmp_path / "end").touch()
            agent.end_run()


def test_a_torchrun_that_only_waits_is_reported(state: Path, tmp_path: Path) -> None:
    (tmp_path / "torchrun").write_text("trap exit TERM\nsleep 60 & wait\n")
    with Agent(state) as agent:
        agent.start_run(f"bash ./torchrun & {WAIT}", tmp_path, port=1)
        assert agent.receive_message("rendezvous_joined")["how"] == "waiting"
        (tmp_path / "end").touch()
        agent.end_run()
        assert [message["how"] for message in agent.received if message["t"] == "rendezvous_joined"] == ["waiting"]


COMPLAINT = (
    "[c10d] The IPv6 network addresses of (gpu, 7) cannot be retrieved (gai error: -2 - Name or service not known)."
)


def test_a_rank_that_only_logs_that_its_master_does_not_resolve_is_reported(state: Path, tmp_path: Path) -> None:
    """The stage lasts until the log ends with another line; the run has one host."""
    rank = "env LOCAL_RANK=0 MASTER_PORT=7 sleep 60 &"
    more = "while [ ! -e more ]; do sleep 0.05; done; echo step 1;"
    with Agent(state) as agent:
        agent.start_run(f"{rank} echo '{COMPLAINT}'; {more} {WAIT}", tmp_path)
        assert agent.receive_message("rendezvous_joined")["how"] == "unresolved"
        (tmp_path / "more").touch()
        assert agent.receive_message("rendezvous_joined")["how"] == "joined"
        (tmp_path / "end").touch()
        agent.end_run()


def test_a_rank_that_has_reached_its_master_is_never_reported(state: Path, tmp_path: Path) -> None:
    """Torch logs the error also if only one address family does not resolve."""
    with socket.create_server(("127.0.0.1", 0)) as store:
        port = store.getsockname()[1]
        code = f"import socket, time; s = socket.create_connection(('127.0.0.1', {port})); time.sleep(60)"
        with Agent(state) as agent:
            rank = f'env LOCAL_RANK=0 MASTER_PORT={port} {sys.executable} -c "{code}" &'
            agent.start_run(f"{rank} while [ ! -e met ]; do sleep 0.05; done; echo '{COMPLAINT}'; {WAIT}", tmp_path)
            with store.accept()[0]:
                (tmp_path / "met").touch()
                assert agent.receive_message("rendezvous_joined")["how"] == "joined"
                agent.wait_for_output(COMPLAINT.encode() + b"\n")
                (tmp_path / "end").touch()
                agent.end_run()
            assert "unresolved" not in [message.get("how") for message in agent.received]


def test_a_torchrun_of_a_single_host_waits_once_it_has_a_socket(state: Path, tmp_path: Path) -> None:
    """Before that it imports torch, which may take minutes on a slow disk."""
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); time.sleep(60)"
    (tmp_path / "torchrun").write_text(code)
    with Agent(state) as agent:
        agent.start_run(f"{sys.executable} ./torchrun & {WAIT}", tmp_path)
        assert agent.receive_message("rendezvous_joined")["how"] == "waiting"
        (tmp_path / "end").touch()
        agent.end_run()
