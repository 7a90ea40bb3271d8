"""Stories of docs/: a run that fails, a detached run, and a broken script are played, and their output is that of the pages.

Figures are masked, and so is the width of columns. Four ranks train on two embedded hosts with real torchrun.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.ns import wait_until
from tests.processes import open_namespaces
from tests.sources import ROOT
from tests.test_docs_commands import list_blocks

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]
LIMIT_SECONDS = 300.0  # four ranks import torch

#: The task of the pages; the line numbers are those that they show.
TRAIN_PY = """\
import sys
import time

import torch
import torch.distributed as dist


def load(step):
    if rank == 3 and step == 14:
        if kind == "fail":
            raise ValueError("bad sample 1234")
        if kind == "hang":
            time.sleep(3600)
    return torch.ones(4)

dist.init_process_group("gloo"); rank, kind = dist.get_rank(), sys.argv[1]
for step in range(60):
    batch = load(step)
    dist.all_reduce(batch)
    print(f"step {step}/60 loss {1 / (step + 1):.4f}", flush=True) if rank == 0 else None
    time.sleep(0.05)
"""
HIDDEN = re.compile(r" (?:LAUNCHER|detached \(pid N on \S+\))$")  # the column does not fit the terminal of the page
CONTAINED = "in a container: runs outside of it are not visible here"  # true of the test's namespaces
BROKEN_SH = """\
torchrun --nnodes=$NNODES --node-rank=0 --nproc-per-node=$NPROC_PER_NODE --rdzv-endpoint=$MASTER_ADDR:12345 "$@"
echo done
"""


OPEN_LAB = """\
import sys
from pathlib import Path
from fanout.demo.embedded_lab import open_lab
from tests.processes import start_loopback

start_loopback()
with open_lab(Path(sys.argv[1]), hosts=2):
    print("open", flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class Home:
    """Home directory of the pages, with the project; ``enter`` are the words that start a command among its processes."""

    path: Path
    enter: tuple[str, ...]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Yield the home directory of the pages, with the project and its two hosts."""
    root = tmp_path_factory.mktemp("pages") / "ann"
    project = root / "dFactory"
    project.mkdir(parents=True)
    (project / "train.sh").write_text((ROOT / "train.sh").read_text())
    (project / "train-broken.sh").write_text(BROKEN_SH)
    (project / "train.py").write_text(TRAIN_PY)
    with open_namespaces(sys.executable, "-c", OPEN_LAB, str(project / ".demo")) as enter:
        yield Home(root, enter)


def run_fanout(home: Home, command: str) -> str:
    """Run a command of a page; return what it printed, with the paths of the pages."""
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(home.path),
    }
    done = subprocess.run(
        [*home.enter, sys.executable, "-m", "fanout", *shlex.split(command)],
        cwd=home.path / "dFactory",
        env={**env, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    lines = (done.stdout + done.stderr).replace(str(home.path), "/home/ann").splitlines(keepends=True)
    return "".join(line for line in lines if CONTAINED not in line)


def has_hung(listed: str) -> bool:
    """Return whether the active run has printed its last step before the hang."""
    return any("running" in line and "step 13/60" in line for line in listed.splitlines())


def find_block(page: str, start: str) -> tuple[str, list[str]]:
    """Return the first command of a page that begins so, and its masked output."""
    found = [(command, text) for name, command, text in list_blocks() if name == page and command.startswith(start)]
    command, text = found[0]
    return command, mask_text(text)


def mask_text(text: str) -> list[str]:
    """Return the lines without run ids, times, figures, and widths of columns."""
    masked = []
    for line in text.splitlines():
        line = re.sub(r"\b\d{8}-\d{6}-[0-9a-f]{12}\b", "RUN", line)
        line = re.sub(r"(?<![\w.])\w+@[\w.-]+", "USER@HOST", line)
        line = re.sub(r"\d[\d.,:]*(?:-\d+\b)?", "N", line)
        line = re.sub(r"(?: *\bN (?:h|min|s)\b)+", " TIME", line)
        masked.append(re.sub(r" +", " ", line).rstrip())
    return masked


def test_run_that_fails_ends_with_the_report_of_the_page(home: Home) -> None:
    command, shown = find_block("failures.md", "run ")
    real = mask_text(run_fanout(home, command))
    assert shown[0] == "…"
    real = real[real.index(shown[1]) :]
    others = " the others"  # they fail by themselves, or fanout stops them first
    assert [line for line in real if not line.startswith(others)] == [
        line for line in shown[1:] if not line.startswith(others)
    ], "\n".join(real)


def test_detached_run_is_listed_inspected_and_stopped_as_on_the_pages(home: Home) -> None:
    command, shown = find_block("detached.md", "run -d ")
    assert mask_text(run_fanout(home, command)) == shown
    try:
        wait_until(lambda: has_hung(run_fanout(home, "ps")), LIMIT_SECONDS, "the last step before the hang")
        _, shown = find_block("detached.md", "ps")
        real = [HIDDEN.sub("", line) for line in mask_text(run_fanout(home, "ps"))]
        assert real[:2] == shown[:2]
        assert shown[3] in real
        command, shown = find_block("detached.md", "ps --ssh-config")
        assert mask_text(run_fanout(home, command)) == shown
        command, shown = find_block("failures.md", "stacks")
        assert mask_text(run_fanout(home, command)) == shown
    finally:
        _, shown = find_block("detached.md", "stop")
        stopped = mask_text(run_fanout(home, "stop"))
    assert stopped == shown
    command, shown = find_block("detached.md", "clean")
    assert mask_text(run_fanout(home, command)) == shown


def test_check_names_the_faults_of_a_script_as_the_page_does(home: Home) -> None:
    command, shown = find_block("check.md", "check --ssh-config .demo/ssh_config --script")
    real = mask_text(run_fanout(home, command))
    assert "\n".join(real[real.index("WARNINGS") :]) == "\n".join(shown[shown.index("WARNINGS") :])
