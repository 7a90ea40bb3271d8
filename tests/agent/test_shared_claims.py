"""Two users of one host: the refusal names the holder of the port or GPU, and each claim ends with its holder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.agent import shared_claims
from tests.agent.agents import RUN, Agent
from tests.processes import end_process
from tests.skips import needs

pytestmark = pytest.mark.process
ROOT = needs("root")
CLAIM = f"gpu-{os.getpid()}"  # unique to this test: all users of a machine see it
FIRST, SECOND = 64001, 64002
REPOSITORY = Path(__file__).parents[2]

# Becomes another user, claims, prints the result, and holds the claim until its stdin ends.
HOLDER = """
import os, sys
from fanout.agent import shared_claims
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
try:
    held = shared_claims.take_claim(sys.argv[2], sys.argv[3])
    print("held", flush=True)
except shared_claims.ClaimTaken as taken:
    print(taken.holder, flush=True)
sys.stdin.read()
"""


def start_user(uid: int, run: str, claim: str = CLAIM) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", HOLDER, str(uid), claim, run]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def read_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def end_user(*children: subprocess.Popen[str]) -> None:
    for child in children:
        end_process(child, kill=True)


@ROOT
def test_the_refusal_names_the_holder_of_the_claim() -> None:
    first = start_user(FIRST, "run-1")
    assert read_line(first) == "held"
    second = start_user(SECOND, "run-2")
    refusal = read_line(second)
    end_user(first, second)
    assert f"'run': 'run-1', 'by': 'uid {FIRST}', 'pid': {first.pid}" in refusal


@ROOT
def test_a_claim_ends_with_its_holder_however_that_ends() -> None:
    first = start_user(FIRST, "run-1")
    assert read_line(first) == "held"
    end_user(first)
    second = start_user(SECOND, "run-2")
    word = read_line(second)
    end_user(second)
    assert word == "held"


@ROOT
def test_claims_at_the_same_moment_have_at_most_one_holder() -> None:
    for turn in range(3):
        users = [start_user(FIRST + number, f"run-{number}", f"{CLAIM}-{turn}") for number in range(6)]
        words = [read_line(user) for user in users]
        end_user(*users)
        assert words.count("held") <= 1
        assert all(word == "held" or "'run': 'run-" in word for word in words)


@ROOT
def test_a_name_with_a_uid_other_than_its_owner_holds_nothing() -> None:
    """A user can claim a free name, but not as another user."""
    forged = socket.socket(socket.AF_UNIX)
    with forged:
        forged.bind(f"\0{shared_claims.PREFIX}/{CLAIM}/{FIRST}/1/1/run")
        forged.listen(1)
        second = start_user(SECOND, "run-2")
        word = read_line(second)
        end_user(second)
    assert word == "held"


@ROOT
def test_a_run_is_refused_where_another_user_holds_its_port(state: Path, tmp_path: Path) -> None:
    port = f"port-{os.getpid()}"
    other = start_user(FIRST, "run-1", port)
    try:
        assert read_line(other) == "held"
        with Agent(state) as agent:
            refused = agent.prepare_run(["true"], tmp_path, claims=[port])
    finally:
        end_user(other)
    assert refused["kind"] == "busy"
    assert f"{port} is held by run run-1 of uid {FIRST} since " in refused["message"]
    assert f"(pid {other.pid})" in refused["message"]
    assert f"ask uid {FIRST} to stop it" in refused["hint"]
    assert not state.exists()


@ROOT
def test_a_run_shows_its_claims_to_other_users_until_it_has_ended(state: Path, tmp_path: Path) -> None:
    port = f"port-{os.getpid()}"
    with Agent(state) as agent:
        agent.start_run("echo ready; until [ -e end ]; do sleep 0.05; done", tmp_path, claims=[port])
        words = []
        for _ in range(3):  # a query uses up nothing of the keeper
            other = start_user(FIRST, "run-1", port)
            words.append(read_line(other))
            end_user(other)
        (tmp_path / "end").touch()
        agent.end_run()
    assert all(f"'run': '{RUN}', 'by': 'root (uid 0)'" in word for word in words)
    other = start_user(FIRST, "run-1", port)
    word = read_line(other)
    end_user(other)
    assert word == "held"


def test_runs_of_one_user_are_separated_by_their_directories_only(state: Path, tmp_path: Path) -> None:
    """Two simulated hosts on one machine claim the same port, each in its own state directory."""
    port = f"port-{os.getpid()}"
    with Agent(state) as agent, shared_claims.take_claim(port, "another"):
        assert agent.prepare_run(["true"], tmp_path, claims=[port])["t"] == "prepared"
        agent.send_go()
        assert agent.end_run()[0]["code"] == 0
