"""Stacks of ranks that do not answer our signal: from the real py-spy, or the reason why there is none."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fanout.agent import stack_hook
from fanout.agent.probes import py_spy
from fanout.agent.probes import stacks as probes_stacks
from fanout.diagnose import failure_facts, stack_groups
from tests.processes import hold_process
from tests.skips import skip

pytestmark = pytest.mark.process
WAITS = """
import sys
class Loader:
    def inner(self):
        print('ready', flush=True); sys.stdin.read()
def outer():
    Loader().inner()
outer()
"""


@pytest.fixture
def py_spy_path(monkeypatch: pytest.MonkeyPatch) -> str:
    """Use the py-spy that is installed beside the Python of these tests."""
    path = os.path.join(os.path.dirname(sys.executable), "py-spy")
    monkeypatch.setenv("PATH", "/nowhere")
    return path


@contextmanager
def start_rank(directory: Path, *words: str, number: int = 5, **more: str) -> Iterator[int]:
    """Start a rank that waits for input which never comes."""
    env = {"PATH": "/usr/bin:/bin", "RANK": str(number), "LOCAL_RANK": "1", **more}
    stack_hook.install_hook(env, str(directory))
    child = subprocess.Popen(
        [sys.executable, *words, "-c", WAITS], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with hold_process(child):
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child.pid


@pytest.mark.usefixtures("py_spy_path")
def test_py_spy_reads_a_rank_without_our_handler_and_the_rank_continues(tmp_path: Path) -> None:
    """The stack is the main thread's, innermost first, with function names as faulthandler prints them."""
    with start_rank(tmp_path, "-I") as pid:
        looked = probes_stacks._collect_stacks({pid: {}}, {}, {})[pid]
        assert looked["way"] == "py-spy"
        assert [(frame[1], frame[2]) for frame in looked["stack"]] == [(5, "inner"), (7, "outer"), (8, "<module>")]
        assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


@pytest.mark.usefixtures("py_spy_path")
def test_both_ways_name_the_same_place(tmp_path: Path) -> None:
    """A rank that answers our signal and one that py-spy read are grouped together."""
    with start_rank(tmp_path, number=0) as one, start_rank(tmp_path, "-I", number=1) as two:
        found = probes_stacks._sample(str(tmp_path), os.getpid(), {})["ranks"]
        parsed = list(failure_facts.parse_stacks("gpu01", found))
        assert {each.pid: each.way for each in parsed} == {one: "faulthandler", two: "py-spy"}
        assert stack_groups.describe_stacks(parsed) == ("ranks 0-1 (gpu01) are in inner (<string>:5)",)
        assert stack_groups.describe_readers(parsed) == ("rank 1 (gpu01): read by py-spy from outside the process",)


@pytest.mark.usefixtures("py_spy_path")
def test_a_stopped_rank_shows_where_it_was_stopped(tmp_path: Path) -> None:
    """A stopped rank cannot answer a signal; py-spy neither wakes nor pauses it."""
    with start_rank(tmp_path) as pid:
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        looked = py_spy.dump_stacks([pid], seconds=30.0)[pid]
        assert [frame[2] for frame in looked["stack"]][-2:] == ["outer", "<module>"]
        assert probes_stacks._collect_facts(pid)["state"] == "T"


@pytest.mark.usefixtures("py_spy_path")
def test_native_frames_are_read_on_request(tmp_path: Path) -> None:
    """Native frames come with the Python stack, also for a rank that answered the signal."""
    with start_rank(tmp_path) as pid:
        dump = 'Thread 0x1 (most recent call first):\n  File "<string>", line 6 in inner\n'
        looked = probes_stacks._collect_stacks({pid: {}}, {pid: dump}, {"native": True})[pid]
        if "untold" in looked:
            skip("ptrace", looked["untold"])
        assert (looked["way"], looked["stack"]) == ("faulthandler", [["<string>", 6, "inner"]])
        files = [os.path.basename(frame[0]) for frame in looked["native"]]
        assert "<string>" in files
        assert any(".so" in file for file in files)


def _has_environment(pid: int) -> None:
    """Wait for the kernel: for a moment after an exec there is no environment."""
    until = time.monotonic() + 20
    while not Path(f"/proc/{pid}/environ").read_bytes():
        assert time.monotonic() < until


def test_a_stack_that_cannot_be_read_has_a_reason(tmp_path: Path, py_spy_path: str) -> None:
    """Cases: a process that is no Python, one that has ended, and a host without py-spy."""
    sleep = subprocess.Popen(["/bin/sleep", "60"], env={"PATH": os.path.dirname(py_spy_path)})
    with hold_process(sleep):
        _has_environment(sleep.pid)
        assert py_spy.dump_stacks([sleep.pid], seconds=20.0)[sleep.pid]["untold"].startswith("py-spy: ")
    assert "untold" in py_spy.dump_stacks([sleep.pid], seconds=20.0)[sleep.pid]
    bare = shutil.copy("/bin/sleep", tmp_path / "sleep")
    sleep = subprocess.Popen([bare, "60"], env={"PATH": "/nowhere"})
    with hold_process(sleep):
        _has_environment(sleep.pid)
        dumps = py_spy.dump_stacks([sleep.pid], seconds=20.0)
        assert dumps == {sleep.pid: {"untold": "py-spy is not installed there"}}


def test_a_py_spy_that_hangs_is_killed(tmp_path: Path) -> None:
    """Its process group is killed too."""
    program = tmp_path / "py-spy"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    sleep = subprocess.Popen(["/bin/sleep", "60"], env={"PATH": str(tmp_path)})
    with hold_process(sleep):
        _has_environment(sleep.pid)
        reason = py_spy.dump_stacks([sleep.pid], seconds=0.3)[sleep.pid]["untold"]
        assert reason.startswith("py-spy gave no answer within ")
