"""The script of docs/api.md runs on two embedded hosts, and its output is what the page promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.demo import embedded_lab
from tests.sources import ROOT
from tests.ui.terminals import PATIENCE, free_port

pytestmark = pytest.mark.process

TRAIN = 'for n in $(seq 20); do echo "rank $NODE_RANK step $n loss 2.$n"; sleep 0.05; done\n'


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """Yield a project with a hostfile, whose fanout.toml leads to two embedded hosts."""
    with embedded_lab.open_lab(tmp_path / ".demo") as lab:
        (tmp_path / "hosts.txt").write_text("".join(f"{host.name} slots=1\n" for host in lab.hosts))
        (tmp_path / "train.py").write_text("")
        (tmp_path / "train.sh").write_text(TRAIN)
        (tmp_path / "fanout.toml").write_text(f'ssh-config = "{lab.ssh_config}"\nmaster-port = {free_port()}\n')
        yield tmp_path


def test_script_of_the_page_runs(project: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.DOTALL)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(project / "state")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("failed: ")]
    assert lines[:3] == ["plan: 127.0.0.2 node rank 0", "plan: 127.0.0.3 node rank 1", "exit code: 0"]
    assert lines[3].startswith("headline: both hosts succeeded")
    assert lines[4:24] == [f"127.0.0.3 rank 1 step {step} loss 2.{step}" for step in range(1, 21)]
    assert lines[24:] == ["stopped: by SIGINT", "recorded: 0 130"]
