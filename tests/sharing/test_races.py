"""A sample of the races of waiting runs; ``make races`` runs all of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.process
SAMPLE = "import sys; from tests.sharing.races import run_races; wrong = run_races(range(20)); print(wrong); sys.exit(bool(wrong))"


def test_waiting_runs_never_share_a_host_and_never_block_each_other() -> None:
    """In a process of its own, because pytest has threads and the races fork."""
    done = subprocess.run([sys.executable, "-c", SAMPLE], capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stdout.strip()) == (0, "{}"), done.stderr
