"""NCCL RAS counts only if a process of the run holds its port; another job's answer is ignored."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fanout.agent.probes import nccl_ras
from fanout.agent.probes.probe_tools import FactUnavailable
from tests.processes import hold_process

pytestmark = pytest.mark.process
SERVES = """
import socket, sys
door = socket.socket(fileno=int(sys.argv[1]))
print("ready", flush=True)
guest = door.accept()[0]
assert guest.recv(100) == b"verbose status\\n"
guest.sendall(b"  The missing rank: 21\\n")
"""


@contextmanager
def start_rank(name: str) -> Iterator[int]:
    """Start a process that serves at the address in its environment."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        env = os.environ | {"NCCL_RAS_ADDR": f"{name}:{door.getsockname()[1]}"}
        child = subprocess.Popen(
            [sys.executable, "-c", SERVES, str(door.fileno())],
            env=env,
            pass_fds=[door.fileno()],
            stdout=subprocess.PIPE,
        )
    with hold_process(child):
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        yield child.pid


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_the_address_comes_from_the_environment_of_the_ranks(name: str) -> None:
    with start_rank(name) as pid:
        assert nccl_ras.query_processes([pid]) == ["  The missing rank: 21"]


def test_another_jobs_service_is_not_queried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        monkeypatch.setattr("fanout.agent.probes.services.RAS_PORT", door.getsockname()[1])
        with pytest.raises(FactUnavailable, match=r"NCCL RAS on port \d+ belongs to another job"):
            nccl_ras.query_processes([])


def test_missing_nccl_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    monkeypatch.setattr("fanout.agent.probes.services.RAS_PORT", port)
    with pytest.raises(FactUnavailable, match=f"no NCCL RAS on port {port} .Connection refused."):
        nccl_ras.query_processes([os.getpid()])
