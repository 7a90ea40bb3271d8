"""Hook and metrics file of a run whose launcher died: the process that takes the run over continues with both."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fanout.record import writer_lock
from tests.ui.terminals import PATIENCE, free_port, run_fanout

pytestmark = pytest.mark.process

SCRIPT = 'echo "step 5 loss 2.5"\nuntil [ -e go ]; do sleep 0.05; done\necho "step 6 loss 2.25"\nexit 7\n'


@pytest.fixture
def run(tmp_path: Path) -> str:
    """Return the id of a detached run with a hook and a metrics file."""
    (tmp_path / "train.sh").write_text(SCRIPT)
    (tmp_path / "task.py").write_text("")
    flags = [
        "--skip-check",
        "--nproc-per-node",
        "1",
        "--master-port",
        str(free_port()),
        "--grace",
        "2",
        "--name",
        "lr1",
    ]
    flags += ["--hook", "cat >> hook.jsonl; echo >> hook.jsonl", "--metrics-file", "run.prom"]
    done = run_fanout(tmp_path, "run", "-d", *flags, "localhost", "task.py")
    assert done.returncode == 0, done.stderr
    wait_for_messages(tmp_path, 1)
    return find_record(tmp_path).name


def find_record(project: Path) -> Path:
    (path,) = (project / "state" / "fanout" / "runs").iterdir()
    return path


def kill_launcher(project: Path, *, guardian: bool) -> None:
    """Kill the launcher of the run, after its guardian if that shall not act."""
    owner = writer_lock.read_owner(str(find_record(project)))
    assert owner is not None
    children = Path(f"/proc/{owner.pid}/task/{owner.pid}/children").read_text().split()
    guardians = [int(pid) for pid in children if b"fanout.run.guardian" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(guardians) == 1
    for pid in (*(guardians if guardian else ()), owner.pid):
        os.kill(pid, signal.SIGKILL)


def wait_for_messages(project: Path, count: int) -> list[dict[str, object]]:
    """Return the messages of the hook when it was called ``count`` times."""
    until = time.monotonic() + PATIENCE
    while True:
        path = project / "hook.jsonl"
        lines = [line for line in path.read_text().splitlines() if line] if path.exists() else []
        if len(lines) >= count:
            return [json.loads(line) for line in lines]
        select.select([], [], [], 0.02)
        assert time.monotonic() < until, f"the hook was called {len(lines)} times: {lines}"


def read_metrics(project: Path) -> dict[str, float]:
    families = text_string_to_metric_families((project / "run.prom").read_text())
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_attach_continues_with_hook_and_metrics_file(tmp_path: Path, run: str) -> None:
    kill_launcher(tmp_path, guardian=True)
    (tmp_path / "go").touch()
    done = run_fanout(tmp_path, "attach", run)
    assert done.returncode == 7, done.stderr
    started, ended = wait_for_messages(tmp_path, 2)
    assert (started["event"], ended["event"], ended["exit_code"]) == ("started", "failed", 7)
    assert (ended["run"], ended["name"], ended["task"]) == (run, "lr1", "task.py")
    assert (ended["step"], ended["loss"]) == (6, 2.25)
    metrics = read_metrics(tmp_path)
    assert (metrics["fanout_run_active"], metrics["fanout_run_exit_code"], metrics["fanout_step"]) == (0, 7, 6)


def test_guardian_sends_the_end_of_the_run(tmp_path: Path, run: str) -> None:
    kill_launcher(tmp_path, guardian=False)
    _, ended = wait_for_messages(tmp_path, 2)
    assert (ended["run"], ended["name"], ended["step"]) == (run, "lr1", 5)
    assert ended["headline"] == "the launcher died; the guardian stopped the run, and nothing is left on the hosts"
    assert run_fanout(tmp_path, "stop", run).returncode == 0  # waits until the guardian has ended
    assert read_metrics(tmp_path)["fanout_run_active"] == 0


def test_stop_sends_the_end_of_a_run_without_a_launcher_once(tmp_path: Path, run: str) -> None:
    kill_launcher(tmp_path, guardian=True)
    for _ in range(2):
        done = run_fanout(tmp_path, "stop", run)
        assert done.returncode == 0, done.stderr
    assert len(wait_for_messages(tmp_path, 2)) == 2
    assert read_metrics(tmp_path)["fanout_run_active"] == 0
