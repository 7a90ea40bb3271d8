"""A real ssh-agent, and one that accepts connections and never answers."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import SECONDS, hold_process


@contextmanager
def start_agent(*keys: Path) -> Iterator[str]:
    """Start an agent with these keys (their passphrase is ``secret``); return the path of its socket."""
    with tempfile.TemporaryDirectory() as directory:  # a socket's path must be short
        path = f"{directory}/agent"
        with hold_process(subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE)) as child:
            assert child.stdout is not None
            child.stdout.readline()  # it prints its variables once it listens
            askpass = Path(directory, "askpass")
            askpass.write_text("#!/bin/sh\necho secret\n")
            askpass.chmod(0o700)
            ours = {"SSH_AUTH_SOCK": path, "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
            for key in keys:
                add = ["ssh-add", "-q", str(key)]
                subprocess.run(add, env={**os.environ, **ours}, check=True, stdin=subprocess.DEVNULL, timeout=SECONDS)
            yield path


@contextmanager
def silent_agent() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{directory}/agent")
        listener.listen(8)
        yield f"{directory}/agent"
