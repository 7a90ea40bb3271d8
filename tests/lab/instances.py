"""Instances of apptainer on the hosts of a lab: a stand-in for the program, and an image directory on each host.

The image has this machine's programs and the checkout by mounts, so the Python of the tests and torch run inside.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from tests.lab.containers import find_pythons, write_root_files
from tests.lab.drive import HERE
from tests.lab.machines import Host
from tests.lab.specs import HostSpec

IMAGE = "/run/apptainer/image"
_PROGRAMS = "/run/apptainer/bin"
ENVIRONMENT_PATH = f"{_PROGRAMS}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_STAND_IN = Path(__file__).with_name("apptainer_stand_in.py")


def specify_host(name: str) -> HostSpec:
    """Return a host whose logins find the program."""
    return HostSpec(name=name, sshd=(f"SetEnv PATH={ENVIRONMENT_PATH}",))


def list_mounts() -> list[str]:
    """Return the paths that make the image directory a whole system."""
    return ["/usr", *find_pythons()]


class Apptainer:
    """The apptainer of one host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        line = shlex.join([sys.executable, "-I", "-S", str(_STAND_IN)])
        host.write_file(f"{_PROGRAMS}/apptainer", f'#!/bin/sh\nexec {line} "$@"\n')
        write_root_files(host, IMAGE)
        places = " ".join(f".{path}" for path in (*list_mounts(), HERE))
        script = f"chmod +x {_PROGRAMS}/apptainer; cd {IMAGE} && mkdir -p {places}"
        host.run_program(["sh", "-c", script], check=True)

    def run_apptainer(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run apptainer."""
        return self.host.run_program([f"{_PROGRAMS}/apptainer", *words], check=check)

    def list_created(self) -> list[str]:
        """Return the names of the instances that fanout created."""
        rows = self.run_apptainer("instance", "list").stdout.splitlines()[1:]
        return [row.split()[0] for row in rows if row.startswith("fanout-")]

    def list_output_files(self) -> list[str]:
        """Return the names of the files in which apptainer keeps the output of instances."""
        logs = self.host.get_path("/root") / ".apptainer/instances/logs"
        return [path.name for path in logs.rglob("fanout-*")]
