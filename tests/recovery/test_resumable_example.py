"""The resumable task of docs/restarts.md: it saves on a signal, asks for a restart, and continues at the next step."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recovery.class_reference import PAGE

pytestmark = pytest.mark.process

ALONE = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "OMP_NUM_THREADS": "1"}


def start_example(folder: Path) -> subprocess.Popen[str]:
    """Write the example of the page and start it as a single rank."""
    section = PAGE.read_text(encoding="utf-8").partition("## Make a task resumable")[2]
    (text,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (folder / "train.py").write_text(text, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, "train.py"], cwd=folder, env=os.environ | ALONE, stdout=subprocess.PIPE, text=True
    )


def read_step(process: subprocess.Popen[str]) -> int:
    """Return the step of the next line."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.match(r"step (\d+)/", line)
    assert found, line
    return int(found[1])


@pytest.mark.timeout(120)
def test_example_saves_on_the_signal_and_continues_at_the_next_step(tmp_path: Path) -> None:
    with start_example(tmp_path) as first:
        while (last := read_step(first)) < 25:
            pass
        first.send_signal(signal.SIGUSR1)
        assert first.stdout is not None
        out = first.stdout.read()  # communicate() would lose the lines that readline() has buffered
    assert first.returncode == 75
    last = max([last, *map(int, re.findall(r"step (\d+)/", out))])  # the step may end without another line
    with start_example(tmp_path) as second:
        begin = read_step(second)
        second.kill()
    assert begin == last + 1
