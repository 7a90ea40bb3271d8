"""Completion in real shells: bash, zsh and fish on a terminal, with the key Tab."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import end_process
from tests.sources import ROOT

PATIENCE = 60.0
RUN = "20261130-101010-aaaabbbbcccc"
START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(fanout completion bash)"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -Uz compinit; compinit -u -d $HOME/.zcompdump; source <(fanout completion zsh)",
    ),
    "fish": (["fish", "--no-config", "-i"], "fanout completion fish | source"),
}
#: What the user types before Tab -> the words that fanout then gets.
LINES = {
    "fanout repl": "replay",
    "fanout run --outp": "run --output",
    "fanout run --output=pl": "run --output=plain",
    "fanout logs 2026": f"logs {RUN}",
    "fanout report lr3": "report lr3e-4",
    "fanout check gpu-nor": "check gpu-north",
    "fanout check hos": "check hosts.txt",
    "fanout run hosts.txt --without big": "run hosts.txt --without bigbox",
}

pytestmark = pytest.mark.process


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home directory with a recorded run, a hostfile, an ssh configuration, and a fanout that prints its words."""
    record = tmp_path / ".local/state/fanout/runs" / RUN
    record.mkdir(parents=True)
    first = {"type": "run", "t": 1.8e9, "run": RUN, "title": "train.py", "name": "lr3e-4", "hosts": ["a"], "ranks": {}}
    (record / "events.jsonl").write_text(json.dumps(first) + "\n")
    (tmp_path / "hosts.txt").write_text("bigbox slots=8\nsmallbox slots=8\n")
    (tmp_path / "ssh_config").write_text("Host gpu-north\n  User ann\n")
    (tmp_path / "fanout.toml").write_text('ssh-config = "ssh_config"\n')
    program = tmp_path / "bin/fanout"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1" = completion ] && exec {sys.executable} -m fanout "$@"\necho "got:$*:"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    path = f"{home}/bin:{os.environ['PATH']}"
    return {"HOME": str(home), "PATH": path, "PYTHONPATH": str(ROOT), "TERM": "xterm", "PS1": "> ", "LANG": "C.UTF-8"}


def take_terminal() -> None:
    """Make stdin the terminal of this session, as fish and job control need it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class ShellSession:
    """An interactive shell on a terminal."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._text = ""

    def type_text(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for_text(self, text: str) -> None:
        """Read until the shell has printed the text since the last call."""
        until = time.monotonic() + PATIENCE
        while text not in self._text:
            ready = select.select([self._master], [], [], max(0.0, until - time.monotonic()))[0]
            assert ready, f"no {text!r} in {self._text[-2000:]!r}"
            self._text += os.read(self._master, 65536).decode(errors="replace")
        self._text = self._text.partition(text)[2]


@pytest.fixture(params=sorted(START))
def shell(request: pytest.FixtureRequest, home: Path, environ: dict[str, str]) -> Iterator[ShellSession]:
    """Yield an interactive shell that has loaded its script."""
    argv, load = START[request.param]
    master, slave = pty.openpty()
    child = subprocess.Popen(
        argv,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=home,
        env=environ,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(slave)
    try:
        session = ShellSession(master)
        session.type_text(f"{load}; echo lo''aded\r")
        session.wait_for_text("loaded")
        yield session
    finally:
        end_process(child, kill=True)
        os.close(master)


def test_tab_completes_commands_flags_values_runs_hosts_and_files(shell: ShellSession) -> None:
    for typed, words in LINES.items():
        shell.type_text(f"{typed}\t\r")
        shell.wait_for_text(f"got:{words}:")


def test_unknown_shell_is_refused(home: Path, environ: dict[str, str]) -> None:
    argv = [sys.executable, "-m", "fanout", "completion", "fsh"]
    done = subprocess.run(argv, cwd=home, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 2
    assert "unknown shell 'fsh'; fanout completes in bash, zsh and fish" in done.stderr
