"""Unkillable, hung or stopped processes block neither the relay nor the keeper, and are never reported as gone."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from fanout.agent import frames, kill_sweep, processes, tree_stop
from tests.agent.agents import RUN, Agent, build_mark, is_alive, wait_for
from tests.processes import hold_process
from tests.skips import skip

pytestmark = pytest.mark.process
SILENT_SECONDS = 15.0  # after this time a launcher drops a link


# Its first thread exits, another goes on: /proc calls such a process a zombie.
HEADLESS = """
import ctypes, signal, sys, threading, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("ready", flush=True)
ctypes.CDLL(None).syscall(60 if sys.maxsize else 0, 0)
"""


UNKILLABLE = """
from fanout_agent import processes
really = processes.send_signal
processes.send_signal = lambda pid, number: None if _held(processes.read_command(pid)) else really(pid, number)
_held = lambda command: "1007" in command and "bash" not in command
"""
LEAVES_ONE = "setsid sh -c 'echo > up; exec sleep 1007' & until [ -e up ]; do sleep 0.05; done; echo ready; sleep 60"


@pytest.mark.timeout(180)
def test_the_end_of_a_dead_keeper_is_reported_before_its_processes_are_dead(state: Path, tmp_path: Path) -> None:
    """A process of the run cannot be killed: the exit is reported at once, heartbeats continue, then it is named."""
    times: list[float] = []
    with Agent(state, patch=UNKILLABLE) as agent:
        keeper = agent.prepare_script(LEAVES_ONE, tmp_path, 60.0)
        agent.send_go()
        agent.wait_for_output(b"ready\n")
        os.kill(keeper, signal.SIGKILL)
        began = time.monotonic()
        exited = agent.receive_message("exited")
        assert time.monotonic() - began < 5.0
        assert exited["why"] == "the keeper on the host died without a record"
        times.append(time.monotonic())
        while agent.receive_message("heartbeat", "cleaned_up")["t"] != "cleaned_up":
            times.append(time.monotonic())
            agent.send_operation("heartbeat")
        times.append(time.monotonic())
        (left,) = agent.received[-1]["left"]
        assert left["cmd"] == "sleep 1007"
        os.kill(left["pid"], signal.SIGKILL)
        agent.release_run()
    assert max(later - earlier for earlier, later in pairwise(times)) < SILENT_SECONDS


def test_a_keeper_serves_relays_while_a_process_does_not_die(state: Path, tmp_path: Path) -> None:
    with Agent(state, patch=UNKILLABLE) as agent:
        agent.start_run(LEAVES_ONE, tmp_path)
        agent.wait_for_output(b"ready\n")
        agent.send_operation("kill")
        agent.receive_message("exited")
        with Agent(state) as second:
            began = time.monotonic()
            second.attach_run()
            second.receive_message("exited")
            assert time.monotonic() - began < 10.0
        (sleeper,) = processes.find_marked(build_mark(RUN, 0))
        assert processes.read_command(sleeper) == "sleep 1007"
        os.kill(sleeper, signal.SIGKILL)
        assert agent.end_run()[1]["left"] == []


def _trace_process(pid: int) -> None:
    """Trace a process: its parent cannot reap it meanwhile, as if it hung in the kernel."""
    seize = 0x4206  # linux/ptrace.h
    if ctypes.CDLL(None, use_errno=True).ptrace(seize, pid, None, None):
        skip("ptrace", os.strerror(ctypes.get_errno()))


def test_stuck_probe_child_blocks_no_other_question(state: Path, tmp_path: Path) -> None:
    (tmp_path / "silent").mkdir()
    os.mkfifo(tmp_path / "fifo")
    sleeps = f"from fanout_agent.probes import registry\nregistry.load_probe = lambda what: lambda args: open({str(tmp_path / 'fifo')!r})"
    with Agent(state, patch=sleeps) as agent:
        agent.send_operation("ask", id=1, what="anything", args={}, timeout=3600.0)
        relay = agent.hello["pid"]
        wait_for(lambda: processes.descendants(relay), "the question has its child")
        (child,) = processes.descendants(relay)
        _trace_process(child)
        try:
            agent.send_operation("cancel", id=1)
            agent.send_operation("ask", id=2, what="anything", args={}, timeout=0.2)
            answer = agent.receive_message("answer")
            assert (answer["id"], answer["error"]) == (2, "no answer in time")
            assert processes.read_stat(child)[0] == "Z"
        finally:
            os.waitpid(child, getattr(os, "__WALL", 0x40000000))
        agent.send_operation("ask", id=3, what="anything", args={}, timeout=0.2)
        assert agent.receive_message("answer")["id"] == 3
        wait_for(lambda: not processes.read_stat(child), "the relay collects the child once it can")


def test_a_work_directory_that_does_not_answer_is_a_refusal(state: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    hangs = f"""
from fanout_agent import prepare
prepare.CHECK_SECONDS = 0.3
prepare._check_spec = lambda spec: open({str(tmp_path / "fifo")!r})
"""
    with Agent(state, patch=hangs) as agent:
        refused = agent.prepare_run(["true"], tmp_path)
    assert (refused["t"], refused["kind"]) == ("refused", "no-directory")
    assert refused["message"].startswith(f"{tmp_path} cannot be read: no answer within 0.3 s")
    assert f"`ls {tmp_path}`" in refused["hint"]
    assert not state.exists()


def test_an_answer_that_fits_in_no_frame_fails_only_that_question(state: Path) -> None:
    long = f"from fanout_agent.probes import registry\nregistry.load_probe = lambda what: lambda args: 'x' * {frames.MAX_BODY}"
    with Agent(state, patch=long) as agent:
        agent.send_operation("ask", id=1, what="anything", args={}, timeout=30.0)
        assert "too long to be sent" in agent.receive_message("answer")["error"]


def test_a_process_whose_first_thread_has_exited_is_not_called_gone(state: Path, tmp_path: Path) -> None:
    (tmp_path / "headless.py").write_text(HEADLESS)
    with Agent(state) as agent:
        agent.start_run(f"{sys.executable} headless.py & wait -n || sleep 60", tmp_path)
        agent.wait_for_output(b"ready\n")
        agent.send_operation("stop", grace=0.5, why="x")
        exited, gone, _ = agent.end_run()
    assert gone["killed"] >= 1
    assert exited["why"] == ""
    assert not processes.find_marked(build_mark(RUN, 0))


def test_a_script_whose_first_thread_has_exited_is_waited_for(state: Path, tmp_path: Path) -> None:
    """It dies of SIGKILL after the grace, and that is reported."""
    (tmp_path / "headless.py").write_text(HEADLESS)
    with Agent(state) as agent:
        assert agent.prepare_run([sys.executable, "headless.py"], tmp_path)["t"] == "prepared"
        agent.send_go()
        agent.wait_for_output(b"ready\n")
        agent.send_operation("stop", grace=0.3, why="x")
        exited, gone, _ = agent.end_run()
    assert (exited["signal"], exited["why"], gone["left"]) == (signal.SIGKILL, "", [])


def test_a_sweep_reports_what_does_not_die() -> None:
    with hold_process(subprocess.Popen(["sleep", "1007"])) as child:
        _trace_process(child.pid)
        kill_leftovers = kill_sweep.KillSweep(lambda: [child.pid], seconds=0.2)
        until = time.monotonic() + 30.0
        while not kill_leftovers.step():
            assert time.monotonic() < until
        assert (kill_leftovers.killed, kill_leftovers.left) == (1, [child.pid])


def test_process_group_of_another_parent_gets_no_signal() -> None:
    """Its number may belong to another user's processes by then."""
    argv = ["setsid", "sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"]
    with hold_process(subprocess.Popen(argv, stdout=subprocess.PIPE)) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"up\n"
        call = f"from fanout.agent import tree_stop; tree_stop.terminate_group({other.pid}, exited=True)"
        subprocess.run([sys.executable, "-c", call], check=True)
        assert is_alive(other.pid)
        tree_stop.terminate_group(other.pid, exited=True)  # a child of this process is ours
        assert other.wait(30) == 3


# ------------------------------------------------------------------------------------------------- faults of the agent


def test_a_fault_of_the_keeper_is_reported_and_leaves_nothing(state: Path, tmp_path: Path) -> None:
    patch = "from fanout_agent import keeper\nkeeper.OutputPipe.drain = lambda self: {}['no such thing']"
    with Agent(state, patch=patch) as agent:
        assert agent.prepare_run(["bash", "-c", "setsid sleep 60 & echo ready; sleep 60"], tmp_path)["t"] == "prepared"
        agent.send_go()
        exited, gone, _ = agent.end_run()
    assert (exited["code"], exited["signal"], gone["left"]) == (None, None, [])
    assert "which is a bug in fanout: KeyError: 'no such thing'" in exited["why"]
    assert "keeper.py" in exited["why"]
    assert processes.find_marked(build_mark(RUN, 0)) == []


def test_a_message_that_cannot_be_read_ends_its_connection_and_not_the_run(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        agent.start_run("echo ready; until [ -e end ]; do sleep 0.05; done", tmp_path)
        agent.send_operation("stop", grace="soon", why="x")
        agent.receive_message("prepared")  # the relay learns the state of the run again through its own connection
        (tmp_path / "end").touch()
        assert agent.end_run()[0]["code"] == 0


def test_a_signal_to_the_keeper_while_it_starts_the_script_is_a_stop(state: Path, tmp_path: Path) -> None:
    patch = """
import os, signal
from fanout_agent import spawn
really = spawn.start_process
def start(*args, **named):
    begun = really(*args, **named)
    os.kill(os.getpid(), signal.SIGTERM)
    return begun
spawn.start_process = start
"""
    with Agent(state, patch=patch) as agent:
        assert agent.prepare_run(["sleep", "60"], tmp_path)["t"] == "prepared"
        agent.send_go()
        exited, gone, _ = agent.end_run()
    assert (exited["signal"], exited["why"]) == (signal.SIGTERM, "the keeper received SIGTERM")
    assert gone["left"] == []


def test_a_lease_of_any_length_can_be_waited_for(state: Path, tmp_path: Path) -> None:
    with Agent(state) as agent:
        agent.start_run("sleep 0.3; exit 3", tmp_path, lease=3e9)
        assert agent.end_run()[0]["code"] == 3
