"""The TCP connection under ssh is cut after N bytes, in both directions, over both transports and a real sshd.

The script runs once, its exit status and its log are whole. ``make cuts`` takes many points, ``make test`` a few.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from fanout.model.events import CleanedUp
from fanout.model.host_facts import HostFacts
from fanout.model.planner import Planner
from fanout.model.policy import Policy
from fanout.model.settings import Settings
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.remote.transports.base import Transport
from fanout.remote.transports.builtin_ssh import SshTransport
from fanout.remote.transports.openssh import OpensshTransport
from fanout.remote.transports.ssh_config import SshConfig
from fanout.run.session import Session
from tests.remote import sshd
from tests.remote.nodes import Seen
from tests.remote.sshd import Sshd
from tests.remote.ways import build_host
from tests.sweeps.tcp import Cutter, open_cutter

pytestmark = pytest.mark.process
POINTS = 40 if os.environ.get("FANOUT_SWEEP") else 3
POLICY = Policy(grace=1.0, last_words=0.0, lease=60.0, start_timeout=60.0)
SCRIPT = "echo x >> ran.$FANOUT_RUN_ID; seq 1 2000; exit 7\n"
OUTPUT = "".join(f"{number}\n" for number in range(1, 2001)).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd.start_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Result of a run."""

    starts: int
    code: int
    output: bytes
    whole: set[bool]
    left: int | None
    headline: str = field(default="", compare=False)  # for the message of a test that fails


def run_over(transport: Transport, directory: Path) -> Result:
    """Run ``SCRIPT`` once, from the first connection to the end."""
    run_id = f"cut-{secrets.token_hex(6)}"
    known = [build_host("lab", slots=1)]
    pool = ConnectionPool(known, lambda one: transport, ConnectionOptions(connect_timeout=30.0, by="me@pc"), Clock())
    planner = Planner(
        hosts=known, task=("t.py",), settings=Settings(), run_id=run_id, directory=str(directory), has_script=True
    )
    plan = planner.make_plan(HostFacts(master_addr="127.0.0.1"))
    plan = replace(plan, nodes=tuple(replace(node, claims=()) for node in plan.nodes))
    seen = Seen()
    session = Session(pool, ["lab"], [seen])
    pool.start()
    try:
        session.connect_hosts()
        outcome = session.run_plan(POLICY, plan)
    finally:
        pool.close()
    ran = directory / f"ran.{run_id}"
    return Result(
        starts=ran.read_text().count("x") if ran.exists() else 0,
        code=outcome.exit_code,
        output=seen.join_output("lab"),
        whole={event.whole for event in seen.events if isinstance(event, CleanedUp)},
        left=outcome.hosts[0].left,
        headline=outcome.headline,
    )


def play_cut(kind: str, server: Sshd, relay: Cutter, directory: Path) -> Result:
    alias = {"Port": str(relay.port), "HostKeyAlias": "lab"}
    known = directory / "known_hosts"
    known.write_text(f"lab {server.host_key}\n")
    config = SshConfig(file=server.write_config(directory / "config", UserKnownHostsFile=str(known), **alias))
    make_one = SshTransport if kind == "ssh" else OpensshTransport
    return run_over(make_one(config), directory)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", ["in", "out"])
@pytest.mark.parametrize("kind", ["ssh", "openssh"])
def test_a_tcp_connection_cut_anywhere_costs_nothing(kind: str, way: str, server: Sshd, tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text(SCRIPT)
    (tmp_path / "t.py").write_text("")
    promised = Result(starts=1, code=7, output=OUTPUT, whole={True}, left=0)
    with open_cutter(server.port) as relay:
        assert play_cut(kind, server, relay, tmp_path) == promised
    passed = relay.passed[way]
    for number in range(1, POINTS + 1):
        after = passed * number // (POINTS + 1)
        with open_cutter(server.port, way, after) as relay:
            result = play_cut(kind, server, relay, tmp_path)
            assert result == promised, f"cut {way} after {after} of {passed} bytes: {result.headline}"
        assert relay.connections > 1, f"the cut after {after} bytes took no effect"
