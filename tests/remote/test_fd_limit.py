"""Room for open files: raised in silence where it can be, refused in a sentence before any host is touched."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.model.settings import Settings
from fanout.remote.fd_limit import count_needed_files
from fanout.remote.transports.select import TransportSelector

LIBRARY, PROGRAM = (
    TransportSelector(Settings(transport=name), user="ann", agent=False).open_files for name in ("auto", "openssh")
)

_ROOM = "import resource; from fanout.remote.fd_limit import raise_file_limit; raise_file_limit({hosts}, 3); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"


def run_limited(tmp_path: Path, soft: int, hard: int, *argv: str) -> subprocess.CompletedProcess[str]:
    """Start a program that may open so many files."""
    limit = f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"'
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        ["bash", "-c", limit, "bash", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        env=env,
        cwd=tmp_path,
        check=False,
    )


def test_more_hosts_need_more_and_programs_more_than_connections() -> None:
    """It grows with the hosts, and a connection by ssh processes takes more."""
    assert count_needed_files(1, LIBRARY) < count_needed_files(64, LIBRARY) < count_needed_files(64, PROGRAM) < 10 * 64


@pytest.mark.parametrize(("soft", "hosts"), [(64, 64), (1024, 2)])
def test_the_soft_limit_is_raised_to_what_it_takes_and_never_lowered(tmp_path: Path, soft: int, hosts: int) -> None:
    """The launcher prints nothing about it: the user need not know."""
    done = run_limited(tmp_path, soft, 1024, sys.executable, "-c", _ROOM.format(hosts=hosts))
    assert done.stderr == ""
    assert int(done.stdout) == max(soft, count_needed_files(hosts, LIBRARY))


def test_a_sufficient_limit_is_unchanged(tmp_path: Path) -> None:
    """A limit that is high enough stays as it is."""
    high = min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert run_limited(tmp_path, high, high, sys.executable, "-c", _ROOM.format(hosts=64)).stdout == f"{high}\n"


@pytest.mark.parametrize(
    "words", [["exec", "hosts.txt", "--", "true"], ["run", "hosts.txt", "task.py"], ["check", "hosts.txt"]]
)
def test_a_limit_that_cannot_be_raised_is_reported_before_any_connection(tmp_path: Path, words: list[str]) -> None:
    """125, the numbers, what to type; no host is dialled, no record is begun."""
    (tmp_path / "hosts.txt").write_text("".join(f"10.255.255.{number} slots=1\n" for number in range(1, 65)))
    (tmp_path / "task.py").write_text("")
    done = run_limited(tmp_path, 64, 64, sys.executable, "-m", "fanout", *words)
    count = count_needed_files(64, LIBRARY)
    assert done.returncode == 125
    assert done.stderr.splitlines() == [
        f"fanout: 64 hosts need up to {count} open files here, but this shell allows 64 (ulimit -Hn)",
        f"        try:  sudo prlimit --pid $$ --nofile={count}:{count}   # this shell only; permanently: nofile in /etc/security/limits.conf",
    ]
    assert not (tmp_path / ".local").exists()
