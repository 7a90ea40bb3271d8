"""A run that hangs, and a healthy one that is inspected: real processes on this machine with simple ranks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.agent import processes
from tests.processes import hold_process

pytestmark = pytest.mark.process

#: : Path in the place of torch's collectives: a stack contains only a path and a name.
COLLECTIVE = "import threading\ndef all_reduce():\n    threading.Event().wait()\n"
TASK = """import os, sys, time
sys.path.insert(0, "site-packages")
from torch.distributed.c10d import all_reduce
def load():
    time.sleep(1000)
print(f"rank {os.environ['RANK']} is here\\n", end="", flush=True)
load() if os.environ["RANK"] == "1" else all_reduce()
"""
SCRIPT = """for rank in 0 1 2; do RANK=$rank LOCAL_RANK=$rank {python} "$1" & done
wait
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    place = tmp_path / "site-packages/torch/distributed"
    place.mkdir(parents=True)
    for package in (place.parent, place):
        (package / "__init__.py").write_text("")  # or the real torch of this environment would come first
    (place / "c10d.py").write_text(COLLECTIVE)
    (tmp_path / "train.sh").write_text(SCRIPT.format(python=sys.executable))
    (tmp_path / "task.py").write_text(TASK)
    return tmp_path


def environment(project: Path) -> dict[str, str]:
    own = {"FANOUT_STATE": str(project / "state"), "XDG_STATE_HOME": str(project / "xdg")}
    return os.environ | own | {"PYTHONPATH": str(Path(__file__).parents[2])}


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "fanout", *words]


def running(*flags: str) -> list[str]:
    words = ["--skip-check", "--nproc-per-node", "3", "--venv", "none", "--output", "plain", "--grace", "1"]
    words += ["--show", "all", *flags]
    return command("run", *words, "localhost", "task.py")


def test_a_hang_is_reported_with_the_outlier_and_ends_the_run(project: Path) -> None:
    """With ``--hang-timeout 1 --on-hang stop`` the verdict names the rank that does not wait."""
    flags = ("--hang-timeout", "1", "--on-hang", "stop")
    done = subprocess.run(
        running(*flags), cwd=project, env=environment(project), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 125, done.stderr
    assert "fanout:   ranks 0,2 (localhost) wait in all_reduce (task.py:7)" in done.stderr
    assert "fanout:   rank 1 (localhost) is in load (task.py:5)" in done.stderr
    assert re.search(r"━━━ HUNG, STOPPED after .*: rank 1 on localhost is in load", done.stderr)
    assert "confidence" not in done.stderr  # it is high
    done = subprocess.run(
        command("report", "--json"),
        cwd=project,
        env=environment(project),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["cause"]["signature"] == "apart"


def enable_sigint() -> None:
    """Reset SIGINT in the child, also if the tests were started by a shell that ignores it (``make test &``)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def read_until(project: Path, text: str, *words: str, **more: str) -> str:
    """Return stderr of a command up to the line that contains the text; then detach from it."""
    child = subprocess.Popen(
        command(*words),
        cwd=project,
        env=environment(project) | more,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=enable_sigint,
    )
    said = []
    with hold_process(child):
        assert child.stderr is not None
        for line in child.stderr:
            said.append(line)
            if text in line:
                break
        child.send_signal(signal.SIGINT)
        said += child.stderr.readlines()
        child.wait(60)
    return "".join(said)


WAIT = "fanout:   ranks 0,2 (localhost) wait in all_reduce (task.py:7)"
ODD = "rank 1 (localhost) is in load (task.py:5)"


def test_ctrl_c_on_a_hang_keeps_the_verdict(project: Path) -> None:
    """The user sees the hang and interrupts: the report still names the rank that blocks the others."""
    said = read_until(project, ODD, *running("--hang-timeout", "1")[3:])
    assert "HUNG, STOPPED BY YOU after" in said
    assert ": rank 1 on localhost is in load" in said.splitlines()[-1]
    assert "exit status  130" in said


def test_a_hang_is_reported_to_later_commands(project: Path) -> None:
    """Here the record has it, because the launcher found it; elsewhere the hosts are queried, as for ``--hang-timeout``."""
    own = environment(project)
    begun = subprocess.run(
        [*running("--hang-timeout", "1")[:-2], "-d", "localhost", "task.py"],
        cwd=project,
        env=own,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert "detached" in begun.stderr
    (project / "hosts.txt").write_text("localhost\n")
    try:
        for words, more in (
            (["attach"], {}),
            (["attach", "hosts.txt", "--hang-timeout", "1"], {"XDG_STATE_HOME": str(project / "elsewhere")}),
        ):
            said = read_until(project, ODD, *words, **more)
            assert "the run hangs: no output for" in said
            assert WAIT in said
            assert "left; the run goes on" in said
    finally:
        subprocess.run(command("stop"), cwd=project, env=own, capture_output=True, timeout=100, check=False)


def test_a_launcher_that_takes_over_detects_hangs_too(project: Path) -> None:
    """It keeps the options of the first launcher: with ``--on-hang stop`` the run ends with the same verdict."""
    own = environment(project)
    flags = ("--hang-timeout", "6", "--on-hang", "stop")
    launcher = subprocess.Popen(
        running(*flags), cwd=project, env=own, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with hold_process(launcher):
        assert launcher.stdout is not None
        for _ in range(3):
            assert "is here" in launcher.stdout.readline()
        below = processes.descendants(launcher.pid)
        (guardian,) = (pid for pid in below if b"fanout.run.guardian" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(guardian, signal.SIGKILL)
    done = subprocess.run(
        command("attach"), cwd=project, env=own, capture_output=True, text=True, timeout=100, check=False
    )
    assert "starting a new one" in done.stderr
    assert WAIT in done.stderr
    assert done.returncode == 125, done.stderr
    assert ": rank 1 on localhost is in load" in done.stderr.splitlines()[-1]


@pytest.fixture
def run_healthy(project: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a run whose three ranks wait at fixed places."""
    child = subprocess.Popen(
        running(), cwd=project, env=environment(project), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with hold_process(child, kill=False, seconds=60):
        assert child.stdout is not None
        seen = 0
        for line in child.stdout:
            seen += b"is here" in line
            if seen == 3:
                break
        yield child


def test_stacks_of_a_healthy_run_can_be_read(project: Path, run_healthy: subprocess.Popen[bytes]) -> None:
    """This can be repeated, grouped or whole; the run is not affected."""
    for flags in ([], ["--full"], ["--json"]):
        done = subprocess.run(
            command("stacks", *flags),
            cwd=project,
            env=environment(project),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if flags == ["--json"]:
            ranks = json.loads(done.stdout)["ranks"]
            assert sorted(rank["rank"] for rank in ranks) == [0, 1, 2]
        else:
            assert "rank 1 (localhost) is in load (task.py:5)\n" in done.stdout
    assert run_healthy.poll() is None
