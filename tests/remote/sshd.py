"""A real sshd on a loopback port, with keys of its own; it needs no root and no configuration of the machine."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import SECONDS, hold_process

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sshd:
    """Where it listens, the files of a client that may log in, and the key that it shows."""

    port: int
    ssh_config: Path
    known_hosts: Path
    identity: Path
    host_key: str

    def write_config(self, path: Path, **options: str) -> str:
        """Another ssh_config for host ``lab``, with these options first, because the first one counts."""
        first = "".join(f"  {name} {value}\n" for name, value in options.items())
        path.write_text(self.ssh_config.read_text().replace("Host lab\n", f"Host lab\n{first}"))
        return str(path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_key(path: Path) -> str:
    """Make a key pair at ``path``; return the public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


@contextmanager
def start_sshd(root: Path, *, port: int = 0, extra: str = "") -> Iterator[Sshd]:
    """Start an sshd that accepts this user with one key; ``extra`` is configuration that counts before ours."""
    assert SSHD is not None, "sshd is not installed (tests/run_tiers process installs it)"
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # what the distribution's service makes for its own
    port = port or free_port()
    host_key, user_key = new_key(root / "host"), new_key(root / "user")
    (root / "authorized").write_text(user_key + "\n")
    config = root / "sshd_config"
    config.write_text(
        f"{extra}ListenAddress 127.0.0.1\nPort {port}\nHostKey {root}/host\nAuthorizedKeysFile {root}/authorized\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\n"
        "MaxStartups 100\nMaxSessions 100\nLogLevel INFO\n"
    )
    known = root / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {host_key}\n")
    client = root / "ssh_config"
    client.write_text(
        f"Host lab\n  HostName 127.0.0.1\n  Port {port}\n  User {getpass.getuser()}\n  IdentityFile {root}/user\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n  GlobalKnownHostsFile none\n"
    )
    log = root / "sshd.log"  # a pipe without a reader would stop sshd when it is full
    argv = [SSHD, "-D", "-E", str(log), "-f", str(config)]
    with hold_process(subprocess.Popen(argv), kill=False) as child:
        _wait_listening(child, log)
        yield Sshd(port=port, ssh_config=client, known_hosts=known, identity=root / "user", host_key=host_key)


def _wait_listening(child: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + SECONDS
    while not log.exists() or "Server listening" not in log.read_text():
        with contextlib.suppress(subprocess.TimeoutExpired):
            pytest.fail(f"sshd ended with {child.wait(timeout=0.02)}: {log.read_text() if log.exists() else ''}")
        assert time.monotonic() < until, "sshd does not listen"
