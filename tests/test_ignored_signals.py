"""Tests run under nohup as well: what they start receives the signals that their own process ignores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = """
import signal, subprocess
for number in (signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
from tests.conftest import replace_ignored_signals
replace_ignored_signals()
signal.raise_signal(signal.SIGHUP)
ignored = subprocess.run(["grep", "SigIgn", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
print(int(ignored.split()[1], 16) & (1 << signal.SIGHUP - 1 | 1 << signal.SIGINT - 1))
"""


@pytest.mark.process
def test_a_program_of_a_test_does_not_inherit_an_ignored_signal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "0\n"
