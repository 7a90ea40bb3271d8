"""Runs that are ended from outside: stops, orphans, broken links, killed keepers, absent launchers."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from fanout.agent import processes
from tests.agent.agents import RUN, Agent, build_mark, is_alive, list_processes_of, list_pythons, wait_for

pytestmark = pytest.mark.process
every_python = pytest.mark.parametrize("python", list_pythons(), ids=lambda path: Path(path).parent.parent.name)

STRAYS = {
    "a child": "sleep 60 &",
    "its own session": "setsid sleep 60 &",
    "forked twice": "(setsid sh -c 'sleep 60 & sleep 60' &)",
    "deaf to TERM": "(trap '' TERM; sleep 60) &",
    "stopped": "sleep 60 & kill -STOP $!",
    "without our mark": "env -i setsid sleep 60 &",
}


@pytest.mark.parametrize("stray", STRAYS.values(), ids=list(STRAYS))
def test_processes_that_the_script_leaves_are_killed_and_counted(state: Path, tmp_path: Path, stray: str) -> None:
    with Agent(state) as agent:
        agent.start_run(f"{stray}\necho ready; exit 3", tmp_path)
        exited, gone, output = agent.end_run()
    assert exited["code"] == 3
    assert gone["killed"] >= 1
    assert gone["left"] == []
    assert output == b"ready\n"
    assert processes.find_marked(build_mark(RUN, 0)) == []


SAVER = """
import os, signal, sys
def save(number, frame):  # os.write: a signal may interrupt a print
    signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"told twice\\n"))
    with open(sys.argv[1]) as fifo:
        fifo.read()
    os.write(1, b"saved\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""


@every_python
@pytest.mark.parametrize("wrapper", ["{saver}; true", "trap : TERM; {saver}; true", "setsid -w {saver}; true"])
def test_a_stop_leaves_time_to_save(state: Path, tmp_path: Path, python: str, wrapper: str) -> None:
    """bash dies of SIGTERM or waits; the program below it saves first, and gets one SIGTERM for several stops."""
    (tmp_path / "saver.py").write_text(SAVER)
    os.mkfifo(tmp_path / "disk")
    with Agent(state, python=python) as agent:
        agent.start_run(wrapper.format(saver=f"{sys.executable} saver.py disk"), tmp_path)
        agent.wait_for_output(b"ready\n")
        for why in ("another host failed", "said twice"):
            agent.send_operation("stop", grace=1.0 if "setsid" in wrapper else 20.0, why=why)
        (tmp_path / "disk").write_text("slow")
        _, gone, output = agent.end_run()
    assert output.replace(b"Terminated\n", b"") == b"ready\nsaved\n"
    assert (gone["killed"], gone["left"]) == (0, [])


def test_a_process_that_outlives_the_grace_is_killed(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        agent.start_run("trap '' TERM; echo ready; while :; do sleep 0.05; done", tmp_path)
        agent.wait_for_output(b"ready\n")
        agent.send_operation("stop", grace=0.4, why="x")
        exited, gone, _ = agent.end_run()
    assert (exited["code"], exited["signal"]) == (None, signal.SIGKILL)
    assert gone["killed"] >= 1


def test_a_kill_does_not_wait(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        agent.start_run("trap '' TERM; echo ready; while :; do sleep 0.05; done", tmp_path, grace=3600.0)
        agent.wait_for_output(b"ready\n")
        agent.send_operation("stop", grace=3600.0, why="x")
        agent.send_operation("kill")
        assert agent.end_run()[0]["signal"] == signal.SIGKILL


def test_endlessly_forking_tree_is_killed(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        agent.start_run("echo ready; f() { (sleep 0.01; f) & sleep 0.05; f; }; ulimit -u 4000; f", tmp_path)
        agent.wait_for_output(b"ready\n")
        agent.send_operation("kill")
        _, gone, _ = agent.end_run()
    assert gone["left"] == []
    assert processes.find_marked(build_mark(RUN, 0)) == []


# ------------------------------------------------------------------------------------------------------ broken links


@every_python
def test_a_broken_link_loses_no_byte(state: Path, tmp_path: Path, python: str) -> None:
    """A second connection continues at the byte where the first one ended."""
    script = "echo one; while [ ! -e more ]; do sleep 0.02; done; echo two; exit 3"
    with Agent(state, python=python) as first:
        pid = first.start_run(script, tmp_path)
        first.wait_for_output(b"one\n")
        os.kill(first.hello["pid"], signal.SIGKILL)
    assert is_alive(pid)
    with Agent(state, python=python) as second:
        second.attach_run(have=2)
        second.receive_message("started")
        (tmp_path / "more").touch()
        exited, gone, output = second.end_run()
    assert output == b"e\ntwo\n"
    assert (exited["code"], gone["sizes"]) == (3, {"0": 8})


def test_a_run_that_ended_without_a_link_is_reported_from_its_record(state: Path, tmp_path: Path) -> None:
    with Agent(state) as first:
        pid = first.start_run("echo alone; exit 3", tmp_path)
    wait_for(lambda: not is_alive(pid) and not list_processes_of(state), "the keeper ends with its run")
    with Agent(state) as second:
        second.attach_run()
        exited, gone, output = second.end_run()
    assert (exited["code"], gone["killed"], output) == (3, 0, b"alone\n")
    assert not state.exists()


def test_after_a_killed_keeper_its_script_dies_and_the_next_relay_kills_the_rest(state: Path, tmp_path: Path) -> None:
    """PDEATHSIG kills the script; the mark in the environment finds the processes that it had started."""
    with Agent(state) as first:
        assert first.prepare_run(["bash", "-c", "setsid sleep 60 & echo ready; sleep 60"], tmp_path)["t"] == "prepared"
        keeper = first.received[-1]["pid"]
        first.send_go()
        pid = first.receive_message("started")["pid"]
        first.wait_for_output(b"ready\n")
        os.kill(keeper, signal.SIGKILL)
        exited, gone, output = first.end_run()
    assert (exited["code"], exited["signal"]) == (None, None)
    assert exited["why"] == "the keeper on the host died without a record"
    assert gone["killed"] >= 1
    assert output == b"ready\n"
    assert not is_alive(pid)
    assert processes.find_marked(build_mark(RUN, 0)) == []
    assert not state.exists()


def test_a_later_connection_gets_the_same_report(state: Path, tmp_path: Path) -> None:
    with Agent(state) as first:
        assert first.prepare_run(["bash", "-c", "setsid sleep 60 & echo ready; sleep 60"], tmp_path)["t"] == "prepared"
        keeper = first.received[-1]["pid"]
        first.send_go()
        first.wait_for_output(b"ready\n")
    os.kill(keeper, signal.SIGKILL)
    with Agent(state) as second:
        second.attach_run()
        exited, gone, output = second.end_run()
    assert exited["why"] == "the keeper on the host died without a record"
    assert (gone["left"], output) == ([], b"ready\n")
    assert processes.find_marked(build_mark(RUN, 0)) == []
    assert not state.exists()


def test_a_script_dies_with_its_killed_keeper_without_relay_and_launcher(state: Path, tmp_path: Path) -> None:
    """There is no relay and no launcher: the kernel kills the script (PDEATHSIG)."""
    with Agent(state) as first:
        assert first.prepare_run(["bash", "-c", "echo ready; sleep 60"], tmp_path)["t"] == "prepared"
        keeper = first.received[-1]["pid"]
        first.send_go()
        pid = first.receive_message("started")["pid"]
        first.wait_for_output(b"ready\n")
    wait_for(lambda: list_processes_of(state) == [keeper], "the relay goes with its connection")
    os.kill(keeper, signal.SIGKILL)
    wait_for(lambda: not is_alive(pid), "the script goes with its keeper")
    with Agent(state) as second:
        second.attach_run()
        second.end_run()


def test_claims_of_a_killed_keeper_are_free(state: Path, tmp_path: Path) -> None:
    with Agent(state) as first:
        first.prepare_run(["sleep", "60"], tmp_path)
        os.kill(first.received[-1]["pid"], signal.SIGKILL)
        wait_for(lambda: not is_alive(first.received[-1]["pid"]), "a killed process ends")
        with Agent(state) as second:
            assert second.prepare_run(["true"], tmp_path, run=f"{RUN}-2")["t"] == "prepared"
            second.send_go(run=f"{RUN}-2")
            assert second.end_run()[0]["code"] == 0
        first.release_run()
    assert not state.exists()


# ------------------------------------------------------------------------------------------------- absent launchers


def test_a_run_without_a_launcher_ends_with_its_lease(state: Path, tmp_path: Path) -> None:
    with Agent(state) as first:
        pid = first.start_run(
            "trap 'echo told; exit 0' TERM; echo ready; while :; do sleep 0.05; done", tmp_path, lease=1.0
        )
        first.wait_for_output(b"ready\n")
    wait_for(lambda: not is_alive(pid) and not list_processes_of(state), "the lease runs out")
    with Agent(state) as second:
        second.attach_run()
        exited, _, output = second.end_run()
    assert (exited["code"], output.replace(b"Terminated\n", b"")) == (0, b"ready\ntold\n")


def test_a_heartbeat_renews_the_lease(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        agent.start_run("for n in 1 2 3 4 5 6 7 8; do sleep 0.6; echo $n; done; exit 4", tmp_path, lease=3.0)
        for number in range(1, 9):
            agent.wait_for_output(b"%d\n" % number)
            agent.send_operation("heartbeat")
        assert agent.end_run()[0]["code"] == 4


def test_a_prepared_host_that_never_receives_go_rolls_back(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        agent.prepare_run(["bash", "-c", "touch started"], tmp_path, lease=1.0)
        gone = agent.receive_message("cleaned_up")
        assert (gone["killed"], gone["left"]) == (0, [])
        agent.release_run()
    assert not (tmp_path / "started").exists()
    assert not state.exists()


# --------------------------------------------------------------------------------------------------------- questions


def test_a_question_is_answered_during_a_run(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        agent.start_run("echo ready; while :; do sleep 0.05; done", tmp_path)
        agent.send_operation("ask", id=1, what="no such probe", args={}, timeout=5.0)
        answer = agent.receive_message("answer")
        assert (answer["id"], answer["value"]) == (1, None)
        assert "KeyError" in answer["error"]
        agent.send_operation("kill")
        agent.end_run()


def test_a_launcher_that_sends_rubbish_loses_only_its_own_connection(state: Path, tmp_path: Path) -> None:
    with Agent(state) as first, Agent(state) as second:
        first.start_run("echo ready; while [ ! -e end ]; do sleep 0.02; done", tmp_path)
        first.wait_for_output(b"ready\n")
        second.attach_run()
        second.receive_message("started")
        assert second.child.stdin is not None
        second.child.stdin.write(b"\xff" * 64)
        second.child.stdin.close()
        assert second.child.wait(timeout=30) == 0
        (tmp_path / "end").touch()
        assert first.end_run()[0]["code"] == 0
