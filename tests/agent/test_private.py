"""A run's directories, files and keeper socket are accessible to its user only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.agents import Agent
from tests.skips import needs

pytestmark = pytest.mark.process

# Enters the directory as root, which other users cannot, then sends frames as another user.
STRANGER = """
import os, socket, sys
os.chdir(sys.argv[1])
os.setgroups([]); os.setgid(65534); os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.connect("socket")
client.settimeout(20)
try:
    said = client.recv(1)
except ConnectionResetError:
    said = b""
print(len(said))
"""


def _list_files(state: Path) -> list[Path]:
    return [state, *state.rglob("*")]


def test_other_users_cannot_read_a_run(state: Path, tmp_path: Path) -> None:
    """Directories have mode 0700 and files 0600, for any umask of the login."""
    before = os.umask(0)
    try:
        with Agent(state) as agent:
            agent.start_run("echo ready; while [ ! -e end ]; do sleep 0.02; done", tmp_path)
            agent.wait_for_output(b"ready\n")
            open_to_others = [
                path for path in _list_files(state) if path.lstat().st_mode & 0o077 and not path.is_socket()
            ]
            (tmp_path / "end").touch()
            agent.end_run()
    finally:
        os.umask(before)
    assert open_to_others == []


@needs("root")
def test_another_user_cannot_send_to_the_keeper(state: Path, tmp_path: Path) -> None:
    """Even without the directory modes, the keeper disconnects another uid and sends it nothing."""
    before = os.umask(0)
    try:
        with Agent(state) as agent:
            agent.start_run("echo ready; while [ ! -e end ]; do sleep 0.02; done", tmp_path)
            agent.wait_for_output(b"ready\n")
            (directory,) = [path for path in state.iterdir() if path.is_dir()]
            for path in (state, directory):
                path.chmod(0o755)
            argv = [sys.executable, "-c", STRANGER, str(directory)]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            for path in (state, directory):
                path.chmod(0o700)
            (tmp_path / "end").touch()
            assert agent.end_run()[0]["code"] == 0
    finally:
        os.umask(before)
    assert done.stdout == "0\n", done.stderr
