"""Benchmark set-up: machines of the lab, a project on each of them, and the contenders."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from bench.common import TRAIN_SH, Contender, Start
from bench.installed import create_environment, get_command
from tests.lab.lab import Lab
from tests.lab.specs import USER, Bind, HostSpec

PROJECT = f"/home/{USER}/project"

#: One machine stands for many hosts: each destination address gets its own state directory and host id.
MANY_IN_ONE = """\
set -- $SSH_CONNECTION
export FANOUT_HOST_ID="bench $3" FANOUT_STATE="/var/tmp/bench-$3" BENCH_STATE="/var/tmp/bench-$3"
mkdir -p -m 700 "$FANOUT_STATE"
"""


@contextmanager
def start_machines(
    hosts: int | Sequence[HostSpec], *, binds: Sequence[Bind] = (), script: str = TRAIN_SH, subnet: str = "10.77.0.0/24"
) -> Iterator[Lab]:
    """Start a lab whose machines all have a project with ``script`` as train.sh and an empty task."""
    visible = (*binds, Bind(source=str(create_environment())))
    with Lab(hosts, binds=visible, launcher_mb=4096, subnet=subnet) as lab:
        for node in lab.nodes:
            node.write_file(f"{PROJECT}/train.sh", script, user=USER)
            node.write_file(f"{PROJECT}/task.py", "", user=USER)
        lab.write_hostfile()
        yield lab


def build_many_hosts(names: int, *, first: int = 1) -> HostSpec:
    """Return one machine with one sshd that has ``names`` host names, from ``h{first}`` on."""
    aliases = tuple(f"h{number}" for number in range(first + 1, first + names))
    dotfiles = {".bashrc": MANY_IN_ONE}
    return HostSpec(name=f"h{first}", aliases=aliases, sshd=("MaxStartups 1000",), dotfiles=dotfiles, tmp_mb=4096)


def build_start(lab: Lab) -> Start:
    """Return a function that starts contenders on the launcher, in the project, as a user who can log in to all hosts."""

    def start(contender: Contender) -> subprocess.Popen[bytes]:
        variables = {"OMP_NUM_THREADS": "1", **contender.env}
        if contender.screen:
            return _start_on_screen(lab, contender, variables)
        if not contender.to:
            return lab.launcher.start_program(
                contender.argv,
                user=USER,
                cwd=PROJECT,
                env=variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        output = os.open(contender.to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            return lab.launcher.start_program(
                contender.argv, user=USER, cwd=PROJECT, env=variables, stdout=output, stderr=subprocess.DEVNULL
            )
        finally:
            os.close(output)

    return start


def _start_on_screen(lab: Lab, contender: Contender, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    tty.setraw(slave)
    child = lab.launcher.start_program(
        contender.argv,
        user=USER,
        cwd=PROJECT,
        env={"TERM": "xterm-256color", **variables},
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    child.stdout = os.fdopen(master, "rb", 0)
    return child


def build_fanout(name: str, *argv: str, shows: str = "", to: str = "", screen: bool = False) -> Contender:
    """Return fanout of this checkout as a contender."""
    return Contender(name=name, argv=(*get_command(), *argv), shows=shows, to=to, screen=screen)


def build_peer(name: str, *argv: str, shows: str = "", to: str = "") -> Contender:
    """Return a program of this machine as a contender, or the reason for its absence."""
    if shutil.which(argv[0]) is None:
        return Contender(name=name, absent=f"{argv[0]} is not installed")
    return Contender(name=name, argv=argv, shows=shows, to=to)


def build_venv_bind(venv: str) -> tuple[Bind, ...]:
    """Return the mount that makes another virtual environment visible on the machines."""
    return (Bind(source=os.path.abspath(venv)),) if venv and venv != sys.prefix else ()
