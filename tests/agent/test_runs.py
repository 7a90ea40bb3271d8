"""A host's list of runs, and cleanup, which removes only runs without a keeper."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from fanout.agent import processes
from tests.agent.agents import RUN, Agent, alive, wait_for

pytestmark = pytest.mark.process
WAIT = "echo ready; until [ -e end ]; do sleep 0.05; done"


def _asked(agent: Agent, what: str = "runs", **args: Any) -> dict[str, Any]:
    agent.tell("ask", id=7, what=what, args=args, timeout=30.0)
    answer = agent.hear("answer")
    assert not answer["error"], answer
    value: dict[str, Any] = answer["value"]
    value["processes"] = [
        process for process in value["processes"] if process["run"] == RUN
    ]  # other tests may run here
    return value


def test_a_run_that_goes_on_is_told_with_all_that_is_known(state: Path, tmp_path: Path) -> None:
    """An unrelated connection gets the list too; the question creates no directory and changes nothing."""
    with Agent(state) as agent, Agent(state) as other:
        assert _asked(other)["runs"] == []
        assert not state.exists()
        pid = agent.start(WAIT, tmp_path, card={"title": "t", "nodes": 3}, claims=["port-1", "gpu-0"])
        (run,) = _asked(other)["runs"]
        assert (run["run"], run["node"], run["alive"], run["phase"], run["main"]) == (RUN, 0, True, "running", pid)
        assert (run["about"]["by"], run["about"]["claims"]) == ("me@pc", ["port-1", "gpu-0"])
        assert (run["about"]["nodes"], run["standing"]["relays"]) == (3, 1)
        (tmp_path / "end").touch()
        agent.end()


def test_what_has_a_keeper_is_never_cleaned_wherever_its_directory_is(state: Path, tmp_path: Path) -> None:
    """A second connection with another state directory does not see the run, and must not touch it."""
    with Agent(state) as agent, Agent(tmp_path / "elsewhere") as other:
        pid = agent.start("setsid sleep 60 & " + WAIT, tmp_path)
        agent.hear_output(b"ready\n")
        seen = _asked(other)["processes"]
        assert pid in [process["pid"] for process in seen]
        assert all(process["kept"] for process in seen)
        listed = [[process["pid"], process["start"]] for process in seen]
        assert _asked(other, "clean", runs=[[RUN, 0]], processes=listed)["killed"] == 0
        assert alive(pid)
        (tmp_path / "end").touch()
        assert agent.end()[0]["code"] == 0


def test_what_a_killed_keeper_left_is_ended_and_removed(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent, Agent(state) as other:
        agent.prepare(["bash", "-c", "setsid sleep 60 & " + WAIT], tmp_path)
        keeper = agent.heard[-1]["pid"]
        agent.go()
        agent.hear_output(b"ready\n")
        os.kill(agent.child.pid, signal.SIGKILL)  # its relay would sweep at once
        os.kill(keeper, signal.SIGKILL)
        wait_for(lambda: not alive(keeper), "a killed process ends")
        seen = _asked(other)
        strays = [process for process in seen["processes"] if not process["kept"]]
        assert any("sleep 60" in process["cmd"] for process in strays)
        assert [(run["alive"], run["phase"]) for run in seen["runs"]] == [(False, "running")]
        listed = [[process["pid"], process["start"]] for process in strays]
        left = _asked(other, "clean", runs=[[RUN, 0]], processes=listed)
        assert (left["runs"], left["processes"]) == ([], [])
        assert left["killed"] >= 1
        assert processes.find_marked([f"FANOUT_RUN_ID={RUN}"]) == []
    assert not state.exists()


def test_an_end_that_is_being_fetched_is_nobodys_leftover(state: Path, tmp_path: Path) -> None:
    """After the keeper has ended, its directory is neither stale nor cleaned while a connection reads it."""
    with Agent(state) as agent:
        agent.start("echo hello", tmp_path)
        keeper = next(message["pid"] for message in agent.heard if message["t"] == "prepared")
        agent.hear("gone")
        wait_for(lambda: not alive(keeper), "a keeper goes when all is told")
        os.utime(state / f"{RUN}.0" / "status", (1.0, 1.0))
        with Agent(state) as other:
            assert other.hello["stale"] == []
            (run,) = _asked(other)["runs"]
            assert (run["alive"], run["followed"]) == (False, True)
            assert len(_asked(other, "clean", runs=[[RUN, 0]], processes=[])["runs"]) == 1
        os.kill(agent.child.pid, signal.SIGKILL)
        agent.child.wait(20)
        with Agent(state) as other:
            assert other.hello["stale"] == [RUN]
            os.utime(state / f"{RUN}.0" / "status")
            with Agent(state) as third:
                assert third.hello["stale"] == []
            assert _asked(other, "clean", runs=[[RUN, 0]], processes=[])["runs"] == []


def test_who_took_a_run_over_looks_at_its_disks_and_not_at_the_root(state: Path, tmp_path: Path) -> None:
    """A launcher with only the record does not know the work directory; the host does."""
    with Agent(state) as agent:
        agent.start("until [ -e end ]; do sleep 0.05; done", tmp_path)
        agent.tell("ask", id=1, what="aftermath", args={"run": RUN, "node": 0, "cwd": "/"}, timeout=20.0)
        looked = agent.hear("answer")["value"]["space"]
        assert looked[0]["path"] == str(tmp_path)
        (tmp_path / "end").touch()
        agent.end()
