"""Containers of podman on the hosts of a lab: each host has an engine of its own, and no image is pulled.

A container has a root of its own with an empty /var/tmp, and this machine's programs, the checkout and the shared project
read-only or shared at their own paths. So the Python of the tests and torch run inside.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.lab.drive import HERE
from tests.lab.lab import REPOSITORY
from tests.lab.machines import Host
from tests.lab.specs import HostSpec

NAME, IMAGE = "work", "localhost/train:1"
PLACE = "/run/podman"  # the lab empties /var/tmp and /tmp between tests
_FILES = f"{PLACE}/root"  # of the container
ENVIRONMENT = {
    "CONTAINERS_CONF": f"{PLACE}/containers.conf",
    "CONTAINERS_STORAGE_CONF": f"{PLACE}/storage.conf",
}
#: Limits that this machine permits, and no control groups: a machine without CAP_SYS_RESOURCE has neither.
_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
"""
_STORAGE = f"""\
[storage]
driver = "vfs"
graphroot = "{PLACE}/store"
runroot = "{PLACE}/run"
"""
_ROOT = "usr etc tmp var/tmp proc sys dev root run home"
_LINKS = ("bin", "sbin", "lib", "lib64")


def specify_host(name: str, **variables: str) -> HostSpec:
    """Return a host whose logins find the engine's configuration, and have these variables."""
    values = " ".join(f"{variable}={value}" for variable, value in {**ENVIRONMENT, **variables}.items())
    return HostSpec(name=name, sshd=(f"SetEnv {values}",))


def write_root_files(host: Host, directory: str) -> None:
    """Write the files of a container's root, in which the programs of this machine are mounted."""
    host.write_file(f"{directory}/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
    links = " && ".join(f"ln -s usr/{name} {name}" for name in _LINKS if os.path.exists(f"/usr/{name}"))
    host.run_program(["sh", "-c", f"cd {directory} && mkdir -p {_ROOT} && {links}"], check=True)


class Engine:
    """The podman of one host, and its container ``work``."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.write_configuration()
        host.run_program(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=True)
        write_root_files(host, _FILES)

    def write_configuration(self) -> None:
        self.host.write_file(f"{PLACE}/containers.conf", _CONF)
        self.host.write_file(f"{PLACE}/storage.conf", _STORAGE)

    def break_configuration(self) -> None:
        """Let each command of the engine fail. What runs in its containers continues."""
        self.host.write_file(f"{PLACE}/storage.conf", "[storage\n")

    def run_podman(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run podman."""
        return self.host.run_program(["podman", *words], env=ENVIRONMENT, check=check)

    def start_container(self, *options: str, directory: str = os.path.dirname(HERE)) -> None:
        """Start the container, as a user does once on each host: with the host's network, and the project in it."""
        shared = f"--mount=type=bind,src={directory},dst={directory}"
        fixed = ("--network=host", "--pull=never", f"--name={NAME}", shared)
        self.run_podman("run", "-d", *fixed, *list_arguments(), *options, IMAGE, "sleep", "infinity")

    def start_apart(self, name: str) -> None:
        """Start another container as a user starts it by mistake: without the network of the host and without the project."""
        fixed = ("--network=none", "--pull=never", f"--name={name}", *list_arguments())
        self.run_podman("run", "-d", *fixed, "--rootfs", _FILES, "sleep", "infinity")
        self.run_podman("exec", name, "mkdir", "-p", HERE)

    def import_image(self, name: str = IMAGE) -> None:
        """Make the image from its files. Nothing is pulled."""
        self.host.run_program(["tar", "-C", _FILES, "-cf", f"{PLACE}/root.tar", "."], check=True)
        self.run_podman("import", "-q", f"{PLACE}/root.tar", name)

    def list_created(self) -> list[str]:
        """Return the names of the containers that fanout created."""
        return self.run_podman("ps", "-a", "--filter", "label=fanout.run", "--format", "{{.Names}}").stdout.split()

    def remove_containers(self) -> None:
        """Remove all containers."""
        self.run_podman("rm", "-a", "-f", "-t", "0", check=False)

    def is_idle(self) -> bool:
        """Return whether only the first process of the container runs."""
        return not self.list_inside()

    def list_inside(self) -> list[str]:
        """Return the command lines of the processes in the container, except its first process."""
        done = self.run_podman(
            "exec", NAME, "sh", "-c", "for p in /proc/[0-9]*; do echo $(tr '\\0' ' ' < $p/cmdline); done"
        )
        return [
            line for line in done.stdout.splitlines() if line and not line.startswith(("sleep infinity", "sh -c for p"))
        ]


def list_arguments() -> list[str]:
    """Return the arguments of every container here: the programs of this machine read-only, and what it permits."""
    limits = ("--cgroups=disabled", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
    return [*limits, *list_program_mounts()]


def list_program_mounts() -> list[str]:
    """Return the arguments that mount the programs of this machine read-only."""
    programs = ("/usr", *find_pythons())
    return [f"--mount=type=bind,src={path},dst={path},readonly" for path in programs]


def find_pythons() -> list[str]:
    """Return the directories of this Python, its environment and the checkout that are not below /usr."""
    wanted = {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, REPOSITORY)} | {sys.prefix}
    outer = [path for path in sorted(wanted) if not any(path.startswith(f"{other}/") for other in wanted)]
    return [path for path in outer if not path.startswith("/usr")]
