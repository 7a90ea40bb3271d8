"""The Python API on this machine: ends, errors, events, threads, Ctrl-C, and the record that the commands see."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import fanout
from fanout.api.active_run import ActiveRun, FinishedRun
from fanout.model.errors import HostfileError, UsageError
from fanout.model.events import Chunk, CleanedUp, Exited, Started
from tests.processes import end_process, join_threads
from tests.sources import ROOT
from tests.ui.terminals import PATIENCE, free_port, run_fanout

pytestmark = pytest.mark.process

FOREVER = "trap 'exit 9' TERM\necho step 1 loss 2.5\nwhile :; do sleep 0.05; done\n"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Return an environment whose runs are recorded in the project, which has a task."""
    (tmp_path / "task.py").write_text("")
    return {"XDG_STATE_HOME": f"{tmp_path}/state", "FANOUT_NPROC_PER_NODE": "1", "FANOUT_STATE": f"{tmp_path}/agent"}


def start_run(project: Path, environ: dict[str, str], script: str) -> ActiveRun:
    (project / "train.sh").write_text(script)
    return fanout.start(
        "localhost",
        ["task.py"],
        environ=environ,
        cwd=str(project),
        skip_check=True,
        master_port=free_port(),
        grace=2,
    )


def test_failed_run_is_a_return_value(tmp_path: Path, environ: dict[str, str]) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with start_run(tmp_path, environ, "echo step 5 loss 2.5\nexit 7\n") as active:
        events = list(active)
        done = active.wait()
    assert (done.exit_code, done.ok, done.record.exit_code) == (7, False, 7)
    assert "localhost" in done.headline
    assert [line.text for line in done.record.lines()] == ["step 5 loss 2.5"]
    assert (active.step, active.loss) == (5, 2.5)
    assert not [event for event in events if isinstance(event, Chunk)]
    assert {Started, Exited, CleanedUp} <= {type(event) for event in events}
    assert fanout.record(done.run_id[-6:], environ=environ).report == done.record.report
    assert f"run {done.run_id} FAILED" in done.record.report
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers
    assert "failed (7)" in run_fanout(tmp_path, "ps").stdout


def test_block_that_is_left_early_stops_the_run(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(ZeroDivisionError), start_run(tmp_path, environ, FOREVER) as active:  # noqa: PT012
        for _ in active:
            if active.step == 1:
                raise ZeroDivisionError
    done = active.wait()
    assert done.exit_code == 130
    assert done.outcome.is_clean


def test_runs_work_in_threads(tmp_path: Path, environ: dict[str, str]) -> None:
    ended: dict[int, FinishedRun] = {}

    def run_project(number: int) -> None:
        project = tmp_path / str(number)
        project.mkdir()
        (project / "task.py").write_text("")
        with start_run(project, environ, f"exit {number}\n") as active:
            ended[number] = active.wait()

    threads = [threading.Thread(target=run_project, args=(number,)) for number in (3, 4)]
    for thread in threads:
        thread.start()
    join_threads(*threads, seconds=PATIENCE)
    assert {number: done.exit_code for number, done in ended.items()} == {3: 3, 4: 4}


def test_errors_come_before_the_run_and_print_nothing(
    tmp_path: Path, environ: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(HostfileError, match="no such file"):
        fanout.run("none.txt", ["task.py"], environ=environ, cwd=str(tmp_path))
    with pytest.raises(UsageError, match=r"no task other\.py"):
        fanout.run("localhost", ["other.py"], environ=environ, cwd=str(tmp_path))
    with pytest.raises(UsageError, match="TASK is missing"):
        fanout.run("localhost", [], environ=environ, cwd=str(tmp_path))
    with pytest.raises(UsageError, match="task is a list of words"):
        fanout.plan("localhost", "task.py", environ=environ, cwd=str(tmp_path))
    assert not (tmp_path / "state").exists()
    assert capfd.readouterr() == ("", "")


def test_variables_of_fanout_count_only_on_request(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FANOUT_MASTER_PORT", "31000")
    assert fanout.plan("localhost", ["task.py"], cwd=str(tmp_path)).master_port == 29500
    made = fanout.plan("localhost", ["task.py"], cwd=str(tmp_path), environ=os.environ)
    assert made.master_port == 31000


def wait_for_file(path: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not path.exists():
        select.select([], [], [], 0.02)
        assert time.monotonic() < until, f"no {path}"


def test_ctrl_c_stops_the_run_and_is_raised(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "train.sh").write_text("echo up > up\n" + FOREVER)
    script = f"""
import fanout
try:
    fanout.run("localhost", ["task.py"], nproc_per_node=1, skip_check=True, master_port={free_port()}, grace=2)
except KeyboardInterrupt:
    print("interrupted", fanout.record().exit_code)
"""
    env = {**os.environ, **environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for_file(tmp_path / "up")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=PATIENCE)
    finally:
        end_process(child, kill=True)
    assert (out, err) == ("interrupted 130\n", "")
