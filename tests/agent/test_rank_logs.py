"""One stream per rank: a real keeper and relay find, name and send the files that torchrun would write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fanout.agent import rank_logs
from tests.agent.agents import Agent

# Does what torchrun does with PET_REDIRECTS and PET_LOG_DIR: a worker per local rank, in a session of its own, whose
# stdout and stderr are files. The global ranks differ from counting: only the workers' environment has them.
TORCHRUN = """
for local in 0 1; do
  there=$PET_LOG_DIR/none_x/attempt_0/$local; mkdir -p $there
  RANK=$((7 - local)) LOCAL_RANK=$local setsid bash -c '
    printf "out of %s\\n" $RANK; printf "half a line of %s" $RANK >&2; read -t 1 never < <(sleep 1)
    printf ", the rest\\n" >&2' > $there/stdout.log 2> $there/stderr.log &
done
echo "torchrun speaks"; wait
"""


def test_an_environment_that_redirects_already_is_left_alone(tmp_path: Path) -> None:
    for name in rank_logs.USER_SETTINGS:
        env = {name: "x"}
        assert not rank_logs.redirect_ranks(env, str(tmp_path))
        assert env == {name: "x"}
    env = {}
    assert rank_logs.redirect_ranks(env, str(tmp_path))
    assert env == {"PET_REDIRECTS": "3", "PET_LOG_DIR": f"{tmp_path}/ranks"}


def test_a_rank_that_was_never_seen_running_is_named_by_counting(tmp_path: Path) -> None:
    """Two restarts of local rank 1 on a host whose first rank is 8; silent files need no stream."""
    logs = rank_logs.RankLogs(str(tmp_path), 8)
    for attempt in (0, 1):
        there = tmp_path / f"ranks/none_x/attempt_{attempt}/1"
        there.mkdir(parents=True)
        (there / "stdout.log").write_bytes(b"abc")
        (there / "stderr.log").write_bytes(b"")
    assert [frame["stream"] for frame in logs.scan(os.getpid(), final=True)] == [1, 2]
    assert logs.names == {1: "rank 9", 2: "rank 9 attempt 1"}
    assert logs.sizes == {1: 3, 2: 3}
    assert {number: name for number, (name, _) in rank_logs.read_streams(str(tmp_path)).items()} == logs.names


@pytest.mark.process
def test_every_rank_has_its_own_stream_and_the_rest_is_the_main_stream(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        agent.start_run(TORCHRUN, tmp_path, first_rank=0)
        exited, gone, output = agent.end_run()
        names = {message["stream"]: message["name"] for message in agent.received if message["t"] == "stream_opened"}
        seen = [message["ranks"] for message in agent.received if message["t"] == "ranks_seen"]
    assert (exited["code"], gone["left"]) == (0, [])
    assert seen, "at least one rank was seen running"
    assert {*seen[-1]} <= {6, 7}
    assert output == b"torchrun speaks\n"
    outputs = {names[number]: data for number, data in agent.output.items() if number}
    assert outputs == {
        "rank 7": b"out of 7\n",
        "rank 6": b"out of 6\n",
        "rank 7 err": b"half a line of 7, the rest\n",
        "rank 6 err": b"half a line of 6, the rest\n",
    }
    assert gone["sizes"] == {"0": len(output), **{str(number): len(agent.output[number]) for number in names}}
    assert not state.exists(), "the ranks' files go with the run's directory"


@pytest.mark.process
def test_without_ranks_in_the_plan_nothing_is_redirected(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        agent.start_run('echo "${PET_LOG_DIR:-unset}"', tmp_path, first_rank=-1)
        assert agent.end_run()[2] == b"unset\n"
