"""Logging in to the hosts of a lab with plain ssh, for the lab's own tests."""

from __future__ import annotations

import subprocess

from tests import processes
from tests.lab.lab import Lab


def run_ssh(lab: Lab, host: str, command: str, *, user: str = "lab") -> str:
    """Return the output of a login."""
    return lab.launcher.run_program(["ssh", "-o", "BatchMode=yes", host, command], user=user, check=True).stdout.strip()


def ssh_status(lab: Lab, host: str, command: str = "true") -> subprocess.CompletedProcess[str]:
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=1"]
    return lab.launcher.run_program(["ssh", *options, host, command], user="lab")


def open_session(lab: Lab, host: str, command: str) -> subprocess.Popen[bytes]:
    """Open a login that stays open; it has printed "here" already."""
    argv = ["ssh", "-o", "BatchMode=yes", host, f"echo here; {command}"]
    child = lab.launcher.start_program(
        argv, user="lab", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"here\n"
    return child


def end_session(child: subprocess.Popen[bytes]) -> None:
    processes.end_process(child, kill=True)
