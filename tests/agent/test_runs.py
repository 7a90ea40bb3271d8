"""A host's list of runs, and cleanup, which removes only runs without a keeper."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from fanout.agent import processes
from tests.agent.agents import RUN, Agent, is_alive, wait_for

pytestmark = pytest.mark.process
WAIT = "echo ready; until [ -e end ]; do sleep 0.05; done"


def _list_runs(agent: Agent, what: str = "runs", **args: Any) -> dict[str, Any]:
    agent.send_operation("ask", id=7, what=what, args=args, timeout=30.0)
    answer = agent.receive_message("answer")
    assert not answer["error"], answer
    value: dict[str, Any] = answer["value"]
    value["processes"] = [
        process for process in value["processes"] if process["run"] == RUN
    ]  # other tests may run here
    return value


def test_a_running_run_is_listed_with_all_that_is_known(state: Path, tmp_path: Path) -> None:
    """An unrelated connection gets the list too; the question creates no directory and changes nothing."""
    with Agent(state) as agent, Agent(state) as other:
        assert _list_runs(other)["runs"] == []
        assert not state.exists()
        pid = agent.start_run(WAIT, tmp_path, run_info={"title": "t", "nodes": 3}, claims=["port-1", "gpu-0"])
        (run,) = _list_runs(other)["runs"]
        assert (run["run"], run["node"], run["alive"], run["phase"], run["main"]) == (RUN, 0, True, "running", pid)
        assert (run["run_info"]["by"], run["run_info"]["claims"]) == ("me@pc", ["port-1", "gpu-0"])
        assert (run["run_info"]["nodes"], run["keeper_status"]["relays"]) == (3, 1)
        (tmp_path / "end").touch()
        agent.end_run()


def test_a_run_with_a_keeper_is_never_cleaned_wherever_its_directory_is(state: Path, tmp_path: Path) -> None:
    """A second connection with another state directory does not see the run, and must not touch it."""
    with Agent(state) as agent, Agent(tmp_path / "elsewhere") as other:
        pid = agent.start_run("setsid sleep 60 & " + WAIT, tmp_path)
        agent.wait_for_output(b"ready\n")
        seen = _list_runs(other)["processes"]
        assert pid in [process["pid"] for process in seen]
        assert all(process["kept"] for process in seen)
        listed = [[process["pid"], process["start"]] for process in seen]
        assert _list_runs(other, "clean", runs=[[RUN, 0]], processes=listed)["killed"] == 0
        assert is_alive(pid)
        (tmp_path / "end").touch()
        assert agent.end_run()[0]["code"] == 0


def test_leftovers_of_a_killed_keeper_are_killed_and_removed(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent, Agent(state) as other:
        agent.prepare_run(["bash", "-c", "setsid sleep 60 & " + WAIT], tmp_path)
        keeper = agent.received[-1]["pid"]
        agent.send_go()
        agent.wait_for_output(b"ready\n")
        os.kill(agent.child.pid, signal.SIGKILL)  # its relay would sweep at once
        os.kill(keeper, signal.SIGKILL)
        wait_for(lambda: not is_alive(keeper), "a killed process ends")
        seen = _list_runs(other)
        strays = [process for process in seen["processes"] if not process["kept"]]
        assert any("sleep 60" in process["cmd"] for process in strays)
        assert [(run["alive"], run["phase"]) for run in seen["runs"]] == [(False, "running")]
        listed = [[process["pid"], process["start"]] for process in strays]
        left = _list_runs(other, "clean", runs=[[RUN, 0]], processes=listed)
        assert (left["runs"], left["processes"]) == ([], [])
        assert left["killed"] >= 1
        assert processes.find_marked([f"FANOUT_RUN_ID={RUN}"]) == []
    assert not state.exists()


def test_an_end_that_is_being_fetched_is_not_stale(state: Path, tmp_path: Path) -> None:
    """After the keeper has ended, its directory is neither stale nor cleaned while a connection reads it."""
    with Agent(state) as agent:
        agent.start_run("echo hello", tmp_path)
        keeper = next(message["pid"] for message in agent.received if message["t"] == "prepared")
        agent.receive_message("cleaned_up")
        wait_for(lambda: not is_alive(keeper), "a keeper goes when all is told")
        os.utime(state / f"{RUN}.0" / "status", (1.0, 1.0))
        with Agent(state) as other:
            assert other.hello["stale"] == []
            (run,) = _list_runs(other)["runs"]
            assert (run["alive"], run["followed"]) == (False, True)
            assert len(_list_runs(other, "clean", runs=[[RUN, 0]], processes=[])["runs"]) == 1
        os.kill(agent.child.pid, signal.SIGKILL)
        agent.child.wait(20)
        with Agent(state) as other:
            assert other.hello["stale"] == [RUN]
            os.utime(state / f"{RUN}.0" / "status")
            with Agent(state) as third:
                assert third.hello["stale"] == []
            assert _list_runs(other, "clean", runs=[[RUN, 0]], processes=[])["runs"] == []


def test_new_launcher_measures_the_disks_of_the_run(state: Path, tmp_path: Path) -> None:
    """A launcher with only the record does not know the work directory; the host does."""
    with Agent(state) as agent:
        agent.start_run("until [ -e end ]; do sleep 0.05; done", tmp_path)
        agent.send_operation("ask", id=1, what="aftermath", args={"run": RUN, "node": 0, "cwd": "/"}, timeout=20.0)
        looked = agent.receive_message("answer")["value"]["space"]
        assert looked[0]["path"] == str(tmp_path)
        (tmp_path / "end").touch()
        agent.end_run()
