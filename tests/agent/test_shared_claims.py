"""Claims among the users of one host: who is named, who can hold or free them, and when they end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fanout.agent import processes, shared_claims
from fanout.agent.probes import other_runs
from tests.agent.agents import RUN, Agent, kill_leftovers
from tests.processes import end_process
from tests.skips import needs

pytestmark = pytest.mark.process
ROOT = needs("root")
CLAIM = f"gpu-{os.getpid()}"  # unique to this test: all users of a machine see it
FIRST, SECOND = 64001, 64002
REPOSITORY = Path(__file__).parents[2]

# Becomes another user, claims, prints the result, and answers connections until its stdin ends.
HOLDER = """
import json, os, select, sys
from fanout.agent import relay_clients, shared_claims
uid, claim, answer = int(sys.argv[1]), sys.argv[2], sys.argv[3]
os.setgroups([]); os.setgid(uid); os.setuid(uid)
try:
    held = shared_claims.take_claim(claim, "/state-of-%d" % uid)
except shared_claims.ClaimTaken as taken:
    print(json.dumps(taken.holder), flush=True)
    sys.exit()
print(json.dumps("held"), flush=True)
poll = select.poll()
keeper = relay_clients.RelayClients(held, poll)
keeper.watch_claim_sockets([held], answer.encode() if answer != "-" else shared_claims.describe_run("run-%d" % uid, "/"))
keeper.listener = sys.stdin
poll.register(0, select.POLLIN)
while True:
    for descriptor, events in poll.poll():
        if descriptor == 0:
            sys.exit()
        keeper.handle_event(descriptor, events, ())
"""

# Becomes another user, takes the name without fanout, and behaves as its last argument demands.
SQUATTER = """
import os, socket, sys
uid, claim, how = int(sys.argv[1]), sys.argv[2], sys.argv[3]
os.setgroups([]); os.setgid(uid); os.setuid(uid)
listener = socket.socket(socket.AF_UNIX)
listener.bind("\\0fanout-claim/" + claim)
if how != "no-listen":
    listener.listen(1)
if how == "full":
    clients = [socket.socket(socket.AF_UNIX) for _ in range(8)]
    for client in clients:
        client.setblocking(False)
        try:
            client.connect("\\0fanout-claim/" + claim)
        except OSError:
            pass
print(1, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def users() -> Iterator[ExitStack]:
    """Yield the stack that ends the processes of other users."""
    with ExitStack() as stack:
        yield stack


def start_user(stack: ExitStack, uid: int, claim: str = CLAIM, last: str = "-", program: str = HOLDER) -> Any:
    """Start another user's process; return (the process, what it printed first)."""
    argv = [sys.executable, "-c", program, str(uid), claim, last]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    stack.callback(end_process, child, kill=True)
    assert child.stdout is not None
    return child, json.loads(child.stdout.readline())


@ROOT
def test_refusal_names_user_and_process_and_run(users: ExitStack) -> None:
    first, word = start_user(users, FIRST)
    assert word == "held"
    _, holder = start_user(users, SECOND)
    assert (holder["uid"], holder["user"], holder["pid"]) == (FIRST, f"uid {FIRST}", first.pid)
    assert holder["run"] == f"run-{FIRST}"
    assert holder["since"] == pytest.approx(processes.read_start_time(first.pid))


@ROOT
def test_claim_ends_with_its_holder_however_that_ends(users: ExitStack) -> None:
    first, word = start_user(users, FIRST)
    assert word == "held"
    end_process(first, kill=True)
    assert start_user(users, SECOND)[1] == "held"


@ROOT
def test_claims_at_the_same_moment_have_exactly_one_holder(users: ExitStack) -> None:
    for turn in range(3):
        argv = [sys.executable, "-c", HOLDER]
        started = [
            subprocess.Popen(
                [*argv, str(FIRST + number), f"{CLAIM}-{turn}", "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=REPOSITORY,
            )
            for number in range(6)
        ]
        for child in started:
            users.callback(end_process, child, kill=True)
        words = [json.loads(child.stdout.readline()) for child in started if child.stdout is not None]
        assert words.count("held") == 1
        winner = started[words.index("held")].pid
        assert {word["pid"] for word in words if word != "held"} <= {winner, None}


@ROOT
@pytest.mark.parametrize(
    "answer",
    [
        json.dumps({"run": "run-of-root", "since": 5, "uid": 0, "user": "root", "pid": 1, "place": ""}),
        "\x1b[31mnot json",
        json.dumps({"run": "evil\nheld by root", "since": -1}),
        "[]",
    ],
)
def test_user_is_named_by_the_kernel_and_not_by_the_answer(users: ExitStack, answer: str) -> None:
    liar, word = start_user(users, FIRST, last=answer)
    assert word == "held"
    _, holder = start_user(users, SECOND)
    assert (holder["uid"], holder["user"], holder["pid"]) == (FIRST, f"uid {FIRST}", liar.pid)
    assert holder["run"] in ("", "run-of-root")
    assert holder["since"] == pytest.approx(processes.read_start_time(liar.pid))


@ROOT
def test_user_who_takes_a_name_without_a_run_is_named(users: ExitStack) -> None:
    squatter, _ = start_user(users, FIRST, last="listen", program=SQUATTER)
    _, holder = start_user(users, SECOND)
    assert (holder["uid"], holder["pid"], holder["run"]) == (FIRST, squatter.pid, "")


@ROOT
@pytest.mark.parametrize("how", ["no-listen", "full"])
def test_holder_that_accepts_no_connection_is_not_guessed(
    users: ExitStack, how: str, state: Path, tmp_path: Path
) -> None:
    start_user(users, FIRST, last=how, program=SQUATTER)
    with Agent(state) as agent:
        refused = agent.prepare_run(["true"], tmp_path, claims=[CLAIM])
    assert refused["kind"] == "busy"
    assert refused["message"] == f"busy: {CLAIM} is held by a process that does not accept connections"
    assert f"sudo ss -xlp | grep fanout-claim/{CLAIM}" in refused["hint"]


@ROOT
def test_run_is_refused_where_another_user_holds_its_port(users: ExitStack, state: Path, tmp_path: Path) -> None:
    port = f"port-{os.getpid()}"
    other, word = start_user(users, FIRST, port)
    assert word == "held"
    with Agent(state) as agent:
        refused = agent.prepare_run(["true"], tmp_path, claims=[port])
    assert refused["kind"] == "busy"
    assert f"{port} is held by run run-{FIRST} of uid {FIRST} since " in refused["message"]
    assert f"(pid {other.pid})" in refused["message"]
    assert f"ask uid {FIRST} to stop it" in refused["hint"]
    assert not state.exists()


@ROOT
def test_run_shows_its_claims_to_other_users_until_it_has_ended(users: ExitStack, state: Path, tmp_path: Path) -> None:
    port = f"port-{os.getpid()}"
    with Agent(state) as agent:
        agent.start_run("echo ready; until [ -e end ]; do sleep 0.05; done", tmp_path, claims=[port])
        seen = [start_user(users, FIRST, port)[1] for _ in range(3)]  # a query uses up nothing of the keeper
        (tmp_path / "end").touch()
        agent.end_run()
    assert all((holder["run"], holder["user"]) == (RUN, "root (uid 0)") for holder in seen)
    assert start_user(users, FIRST, port)[1] == "held"


@ROOT
def test_runs_of_other_users_are_listed_with_their_claims(users: ExitStack) -> None:
    claims = [f"gpu-{os.getpid()}", f"gpu-{os.getpid()}x", f"port-{os.getpid()}"]
    pids = {start_user(users, FIRST, claim)[0].pid for claim in claims}
    squatter, _ = start_user(users, SECOND, f"gpu-{os.getpid()}y", "listen", SQUATTER)
    rows = [row for row in other_runs.list_other_runs({}) if str(os.getpid()) in row["claims"][0]]
    assert {row["pid"] for row in rows} == {*pids, squatter.pid}
    assert {(row["uid"], row["run"]) for row in rows} == {(FIRST, f"run-{FIRST}"), (SECOND, "")}
    assert sorted(claim for row in rows for claim in row["claims"]) == sorted([*claims, f"gpu-{os.getpid()}y"])
    assert all(row["age"] >= 0 for row in rows)


@ROOT
def test_claims_pass_to_the_next_attempt_and_its_keeper_is_named(users: ExitStack, state: Path, tmp_path: Path) -> None:
    claims, following = [f"gpu-{os.getpid()}", f"port-{os.getpid()}"], f"{RUN}.1"
    with kill_leftovers(state), Agent(state) as first, Agent(state) as second:
        first.start_run("exit 3", tmp_path, claims=claims, hold=True)
        first.receive_message("cleaned_up")
        before = start_user(users, FIRST, claims[0])[1]
        spec: dict[str, Any] = {"run": following, "claims": claims, "after": {"run": RUN, "node": 0}}
        second.start_run("read -r _ < /dev/zero", tmp_path, **spec)
        seen = [start_user(users, FIRST, claim)[1] for claim in claims]
        first.release_run()
        seen += [start_user(users, FIRST, claim)[1] for claim in claims]
        keeper = next(message["pid"] for message in second.received if message["t"] == "prepared")
        second.send_operation("stop", grace=0.0, why="test")
        second.end_run()
    assert before["run"] == RUN
    assert {(holder["run"], holder["pid"]) for holder in seen} == {(following, keeper)}
    assert start_user(users, FIRST, claims[1])[1] == "held"


def test_runs_of_one_user_are_separated_by_their_directories_only(state: Path, tmp_path: Path) -> None:
    """Two simulated hosts on one machine claim the same port, each in its own state directory."""
    port = f"port-{os.getpid()}"
    with kill_leftovers(state), Agent(state) as agent, Agent(state.parent / "other-host") as other:
        agent.start_run("read -r _ < /dev/zero", tmp_path, claims=[port])
        assert other.prepare_run(["true"], tmp_path, claims=[port], run=f"{RUN}-other")["t"] == "prepared"
        other.send_go(run=f"{RUN}-other")
        assert other.end_run()[0]["code"] == 0
        agent.send_operation("stop", grace=0.0, why="test")
        agent.end_run()


@ROOT
def test_silent_process_of_the_same_user_is_no_other_run(users: ExitStack, state: Path, tmp_path: Path) -> None:
    """The keeper of another simulated host may be stopped; the lock of this state directory is free."""
    port = f"port-{os.getpid()}"
    start_user(users, os.getuid(), port, last="listen", program=SQUATTER)
    with Agent(state) as agent:
        assert agent.prepare_run(["true"], tmp_path, claims=[port])["t"] == "prepared"
        agent.send_go()
        assert agent.end_run()[0]["code"] == 0


def test_kernel_without_such_sockets_is_reported(state: Path, tmp_path: Path) -> None:
    """The run starts, and its launcher learns that other users do not see its claims."""
    patch = (
        "import fanout_agent.shared_claims as shared\n"
        "def refuse(*_):\n    raise PermissionError(1, 'Operation not permitted')\n"
        "shared.take_claim = refuse"
    )
    with Agent(state, patch=patch) as agent:
        agent.start_run("exit 0", tmp_path, claims=[f"port-{os.getpid()}"])
        agent.end_run()
        (notice,) = (message["message"] for message in agent.received if message["t"] == "disk_pressure")
    assert notice == "other users do not see which port and GPUs this run holds: Operation not permitted"


def test_free_name_has_no_holder() -> None:
    assert shared_claims.find_holders([CLAIM]) == {}
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(f"\0{shared_claims.PREFIX}{CLAIM}")
        shared_claims.offer_claim(held)
        assert shared_claims.find_holders([CLAIM])[CLAIM]["pid"] == os.getpid()
