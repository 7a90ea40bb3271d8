"""Background processes: what outlives train.sh is waited for, ended or kept, and the launcher learns which."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.agent.agents import Agent, is_alive, list_processes_of, wait_for

pytestmark = pytest.mark.process


@pytest.fixture
def torchrun(tmp_path: Path) -> Path:
    """Return a program named torchrun: it runs until the file ``go`` exists, and exits with the status in it."""
    path = tmp_path / "bin" / "torchrun"
    path.parent.mkdir()
    path.write_text(
        "#!/bin/bash\ntrap 'echo SIGTERM >> signals; exit 5' TERM\necho $BASHPID > pid\n"
        "until [ -s go ]; do sleep 0.05; done\nexit $(cat go)\n"
    )
    path.chmod(0o755)
    return path


def end_torchrun(cwd: Path, status: int) -> None:
    (cwd / "new").write_text(str(status))
    (cwd / "new").rename(cwd / "go")


def find_frames(agent: Agent, kind: str) -> list[dict[str, Any]]:
    return [message for message in agent.received if message["t"] == kind]


@pytest.mark.parametrize(
    ("status", "form"), [(0, "nohup {} &"), (7, "nohup {} &"), (6, "setsid {} &"), (4, "( {}; exit $? ) &")]
)
def test_status_of_a_run_is_that_of_the_torchrun_that_it_waits_for(
    state: Path, tmp_path: Path, torchrun: Path, status: int, form: str
) -> None:
    with Agent(state) as agent:
        agent.start_run(form.format(torchrun) + "\necho returned", tmp_path)
        found = agent.receive_message("background_found")
        assert found["how"] == "waited"
        assert "torchrun" in found["processes"]
        assert not find_frames(agent, "exited")
        end_torchrun(tmp_path, status)
        exited, gone, output = agent.end_run()
        assert (exited["code"], gone["killed"], gone["left"]) == (status, 0, [])
        assert ("torchrun" in exited["why"]) == bool(status)
        assert output == b"returned\n"


def test_stop_while_the_run_waits_signals_torchrun_once(state: Path, tmp_path: Path, torchrun: Path) -> None:
    with Agent(state) as agent:
        agent.start_run(f"setsid {torchrun} &", tmp_path)
        agent.receive_message("background_found")
        agent.send_operation("stop", grace=10.0, why="test")
        exited, gone, _ = agent.end_run()
        assert (exited["code"], gone["left"]) == (5, [])
        assert (tmp_path / "signals").read_text() == "SIGTERM\n"


def test_other_processes_are_not_waited_for_and_are_named(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        agent.start_run("sleep 1000 & echo $!", tmp_path)
        exited, gone, output = agent.end_run()
        assert (exited["code"], exited["why"], gone["killed"], gone["left"]) == (0, "", 1, [])
        (found,) = find_frames(agent, "background_found")
        assert (found["how"], found["processes"]) == ("ended", f"pid {int(output)} sleep 1000")


def test_failed_script_does_not_wait_for_its_torchrun(state: Path, tmp_path: Path, torchrun: Path) -> None:
    with Agent(state) as agent:
        agent.start_run(f"{torchrun} & until [ -s pid ]; do sleep 0.05; done; exit 3", tmp_path)
        exited, gone, _ = agent.end_run()
        assert (exited["code"], gone["left"]) == (3, [])
        assert gone["killed"] >= 1
        assert [found["how"] for found in find_frames(agent, "background_found")] == ["ended"]


def test_end_stops_torchrun_within_the_grace_and_the_run_has_not_ended_well(
    state: Path, tmp_path: Path, torchrun: Path
) -> None:
    with Agent(state) as agent:
        agent.start_run(f"nohup {torchrun} & until [ -s pid ]; do sleep 0.05; done", tmp_path, background="end")
        exited, gone, _ = agent.end_run()
        assert (exited["code"], exited["reason"], gone["killed"], gone["left"]) == (0, "background-ended", 0, [])
        pid = int((tmp_path / "pid").read_text())
        assert f"torchrun (pid {pid})" in exited["why"]
        (found,) = find_frames(agent, "background_found")
        assert found["how"] == "ended"
        assert f"pid {pid} " in found["processes"]
        assert (tmp_path / "signals").read_text() == "SIGTERM\n"


def test_end_of_another_process_is_no_failure(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        agent.start_run("sleep 1000 &", tmp_path, background="end")
        exited, gone, _ = agent.end_run()
        assert (exited["code"], exited["why"], gone["killed"], gone["left"]) == (0, "", 0, [])
        assert "sleep 1000" in find_frames(agent, "background_found")[0]["processes"]


def test_kept_processes_stay_with_their_claims_until_the_keeper_gets_a_signal(
    state: Path, tmp_path: Path, torchrun: Path
) -> None:
    with Agent(state) as agent, Agent(state) as other:
        agent.start_run(f"{torchrun} & until [ -s pid ]; do sleep 0.05; done", tmp_path, background="keep")
        exited, gone, _ = agent.end_run()
        pid = int((tmp_path / "pid").read_text())
        (found,) = find_frames(agent, "background_found")
        assert (exited["code"], exited["why"], gone["killed"]) == (0, "", 0)
        assert found["how"] == "kept"
        assert f"pid {pid} " in found["processes"]
        assert pid in [process["pid"] for process in gone["left"]]
        assert is_alive(pid)
        assert other.prepare_run(["true"], tmp_path, run="other")["kind"] == "busy"
        os.kill(found["keeper"], signal.SIGTERM)
        wait_for(lambda: not is_alive(pid), "the kept torchrun still runs")
        wait_for(lambda: not is_alive(found["keeper"]), "the keeper stays without a process")
        assert (tmp_path / "signals").read_text() == "SIGTERM\n"


def test_keeper_of_kept_processes_exits_after_them(state: Path, tmp_path: Path, torchrun: Path) -> None:
    with Agent(state) as agent:
        agent.start_run(f"{torchrun} & until [ -s pid ]; do sleep 0.05; done", tmp_path, background="keep")
        agent.end_run()
        end_torchrun(tmp_path, 0)
    wait_for(lambda: not list_processes_of(state), "a process of the run is left")


def test_relay_that_connects_later_gets_the_same_events(state: Path, tmp_path: Path, torchrun: Path) -> None:
    with Agent(state) as agent:
        agent.start_run(f"nohup {torchrun} &", tmp_path)
        agent.receive_message("background_found")
    with Agent(state) as again:
        again.attach_run()
        assert again.receive_message("background_found")["how"] == "waited"
        end_torchrun(tmp_path, 0)
        assert again.end_run()[0]["code"] == 0


def test_ssh_within_the_run_is_reported_with_its_host(state: Path, tmp_path: Path) -> None:
    client = tmp_path / "ssh"
    client.symlink_to("/bin/bash")
    (tmp_path / "h2").write_text("echo inside; read -r _ < go")
    os.mkfifo(tmp_path / "go")
    with Agent(state) as agent:
        agent.start_run("./ssh h2 bash train.sh & wait", tmp_path)
        agent.wait_for_output(b"inside")
        agent.send_operation("stop", grace=5.0, why="test")
        agent.end_run()
        assert [called["calls"] for called in find_frames(agent, "outside_called")] == ["ssh to h2"]
