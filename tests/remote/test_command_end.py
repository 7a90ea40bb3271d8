"""Ctrl-C on `fanout exec`: the command ends on the host, also in a login of root, and other connections stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fanout.agent import processes
from tests.agent.agents import wait_for
from tests.processes import end_process
from tests.remote.sshd import Sshd
from tests.skips import needs

pytestmark = [pytest.mark.process, needs("linux")]
SECONDS = 20.0


@contextmanager
def start_exec(server: Sshd, number: int) -> Iterator[subprocess.Popen[str]]:
    """Start a command of two processes that sleep for ``number`` seconds; yield when it runs."""
    command = f"echo here; sh -c 'sleep {number}; true' & sleep {number}"
    argv = [
        sys.executable,
        "-m",
        "fanout",
        "exec",
        "--live",
        "--ssh-config",
        str(server.ssh_config),
        "lab",
        "--",
        command,
    ]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)
    try:
        assert child.stdout is not None
        assert "here" in child.stdout.readline()
        yield child
    finally:
        end_process(child)


def count_sleepers(number: int) -> int:
    words = [Path(f"/proc/{pid}/cmdline") for pid in processes.list_pids()]
    return sum(read_bytes(path) == b"sleep\0%d\0" % number for path in words)


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def wait_for_sleepers(number: int, count: int) -> None:
    wait_for(lambda: count_sleepers(number) == count, f"{count} processes")


def test_ctrl_c_ends_the_command_of_this_connection_only(server: Sshd) -> None:
    """With root as the user of the tests, this is a login of root, in which OpenSSH sends no signal."""
    mine, other = 100_000 + os.getpid(), 5_000_000 + os.getpid()
    with start_exec(server, mine) as child, start_exec(server, other) as beside:
        wait_for_sleepers(mine, 2)
        wait_for_sleepers(other, 2)
        child.send_signal(signal.SIGINT)
        text = child.communicate(timeout=SECONDS)[1]
        assert child.returncode == 130
        assert "interrupted: the command has ended on lab" in text
        assert count_sleepers(mine) == 0
        assert count_sleepers(other) == 2
        beside.send_signal(signal.SIGINT)
        assert "the command has ended on lab" in beside.communicate(timeout=SECONDS)[1]
