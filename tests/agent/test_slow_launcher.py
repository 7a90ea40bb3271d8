"""A launcher that does not read for a while affects neither the log bytes nor the run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import hold_process

FLOOD = 300_000  # 30 MB: more than all buffers between train.sh and the screen can hold
DRIPS = 3_000  # then single lines, and the keeper sends their size to the relay each time
LINES = FLOOD + DRIPS
X = "x" * 99
TRAIN_SH = f"""\
head -n {FLOOD} <(yes {X})
for ((i = 0; i < {DRIPS}; i++)); do echo {X}; read -t 0.001 <> <(:); done
until [[ -e received ]]; do sleep 0.05; done
echo the end
"""


def _log_size(state: Path) -> int:
    return sum(file.stat().st_size for file in state.rglob("*") if file.is_file())


@pytest.mark.process
def test_a_flood_arrives_whole_after_its_launcher_was_stopped(tmp_path: Path) -> None:
    """The launcher's stdout is not read until the flood is over; then all bytes arrive, and the run is alive."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (tmp_path / "train.sh").write_text(TRAIN_SH)
    (tmp_path / "task.py").write_text("")
    argv = [sys.executable, "-m", "fanout", "run", "--skip-check", "--nproc-per-node", "1", "localhost", "task.py"]
    ours = {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "FANOUT_STATE": str(state),
        "XDG_STATE_HOME": str(tmp_path / "runs"),
    }
    env = {**os.environ, **ours}
    pipe = subprocess.PIPE
    run = subprocess.Popen(argv, cwd=tmp_path, env=env, stdout=pipe, stderr=subprocess.DEVNULL)
    with hold_process(run, kill=False):  # SIGTERM lets the launcher stop its run
        until = time.monotonic() + 60
        while _log_size(state) < LINES * 100 and run.poll() is None:
            assert time.monotonic() < until, "train.sh did not get its output written"
            time.sleep(0.05)
        assert run.stdout is not None
        received = 0
        while received < LINES * len(X) and (line := run.stdout.readline()):
            received += line.count(b"x")
            assert b"not shown" not in line
        (tmp_path / "received").touch()
        assert run.stdout.readline().endswith(b"| the end\n")
        assert run.wait(60) == 0
