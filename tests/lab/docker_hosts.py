"""docker on the hosts of a lab: each host has a daemon of its own in its network, and no image is pulled.

The programs are those of this machine. The variable DOCKER_PROGRAMS names a directory with an unpacked package instead:
it has ``bin`` and ``sbin``.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.lab import ns
from tests.lab.containers import IMAGE, NAME, list_program_mounts, write_root_files
from tests.lab.drive import HERE
from tests.lab.machines import Host
from tests.lab.specs import Bind, HostSpec
from tests.processes import end_process

_PLACE, _PROGRAMS = "/run/docker", "/run/docker-programs"
_FILES = f"{_PLACE}/root"  # of the image
_OWN_PROGRAMS = os.environ.get("DOCKER_PROGRAMS", "")
#: The daemon changes no network, and works where the file system of a lab supports no layers.
_DAEMON = [
    "dockerd",
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--storage-driver=vfs",
    "--default-ulimit=nofile=1024:1024",
    f"--data-root={_PLACE}/data",
    f"--exec-root={_PLACE}/exec",
    f"--pidfile={_PLACE}/pid",
    "--host=unix:///run/docker.sock",
]
ENVIRONMENT = {
    "PATH": ":".join(([f"{_PROGRAMS}/sbin", f"{_PROGRAMS}/bin"] if _OWN_PROGRAMS else []) + [ns.SEARCH_PATH]),
    "DOCKER_HOST": "unix:///run/docker.sock",
}
#: What a machine without CAP_SYS_RESOURCE permits.
ARGUMENTS = [
    "--ulimit=nofile=1024:1024",
    "--ulimit=memlock=8388608:8388608",
    "--ulimit=stack=8388608:8388608",
    *list_program_mounts(),
]


def specify_docker_host(name: str) -> HostSpec:
    """Return a host whose logins find docker."""
    values = " ".join(f"{variable}={value}" for variable, value in ENVIRONMENT.items())
    return HostSpec(name=name, sshd=(f"SetEnv {values}",))


def list_docker_binds() -> list[Bind]:
    """Return the mounts that make the programs of docker visible on all machines."""
    return [Bind(source=_OWN_PROGRAMS, target=_PROGRAMS)] if _OWN_PROGRAMS else []


class DockerEngine:
    """The docker of one host: its daemon, the image, and the container ``work``."""

    def __init__(self, host: Host) -> None:
        self.host = host
        write_root_files(host, _FILES)
        host.run_program(["sh", "-c", _build_cgroup_mounts()], check=True)
        self._daemon: subprocess.Popen[bytes] | None = None
        self.start_daemon()
        script = f"tar -C {_FILES} -cf - . | docker import - {IMAGE}"
        host.run_program(["sh", "-c", script], env=ENVIRONMENT, check=True)

    def run_docker(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.host.run_program(["docker", *words], env=ENVIRONMENT, check=check)

    def start_daemon(self) -> None:
        """Start the daemon, and wait until it answers."""
        self.host.get_path(f"{_PLACE}/pid").unlink(missing_ok=True)  # of a daemon that was killed
        log_path = self.host.get_path("/run/docker.log")
        with log_path.open("ab") as log:
            output = log.fileno()
            self._daemon = self.host.start_program(_DAEMON, env=ENVIRONMENT, stdout=output, stderr=output)
        daemon = self._daemon

        def has_answered() -> bool:
            if daemon.poll() is not None:
                raise ns.LabError(f"{self.host.name}: dockerd ended: {log_path.read_text()[-600:]}")
            return self.run_docker("ps", "-q", check=False).returncode == 0

        ns.wait_until(has_answered, 30.0, f"{self.host.name}: the daemon answers")

    def stop_daemon(self, number: int = signal.SIGTERM) -> None:
        """End the daemon. SIGTERM ends its containers too; after SIGKILL they run on."""
        assert self._daemon is not None
        self._daemon.send_signal(number)
        self._daemon.wait(60.0)
        end_process(self._daemon, kill=True)

    def start_container(self) -> None:
        """Start the container, as a user does once on each host: with the host's network, and the project in it."""
        shared = f"--mount=type=bind,src={os.path.dirname(HERE)},dst={os.path.dirname(HERE)}"
        fixed = ("--network=host", f"--name={NAME}", shared)
        self.run_docker("run", "-d", *fixed, *ARGUMENTS, IMAGE, "sleep", "infinity")

    def list_created(self) -> list[str]:
        """Return the names of the containers that fanout created."""
        return self.run_docker("ps", "-a", "--filter", "label=fanout.run", "--format", "{{.Names}}").stdout.split()

    def remove_containers(self) -> None:
        """Remove all containers."""
        names = self.run_docker("ps", "-aq").stdout.split()
        if names:
            self.run_docker("rm", "-f", *names)

    def list_inside(self) -> list[str]:
        """Return the pids and command lines of the processes in the container ``work``, except its first process."""
        lines = self.run_docker("top", NAME, "-o", "pid,args").stdout.splitlines()[1:]
        return [line for line in lines if not line.endswith(("sleep infinity", "<defunct>"))]


def _build_cgroup_mounts() -> str:
    """Return the commands that mount the control groups of this machine: a machine of the lab has none."""
    place = "/sys/fs/cgroup"
    if Path(place, "cgroup.controllers").exists():
        return f"mount -t cgroup2 none {place}"
    lines = [f"mount -t tmpfs none {place}"]
    for line in Path("/proc/mounts").read_text().splitlines():
        _, target, kind, options = line.split()[:4]
        if kind == "cgroup" and target.startswith(f"{place}/"):
            name = options.rpartition(",")[2]
            chosen = f"none,{name}" if name.startswith("name=") else os.path.basename(target)
            lines.append(f"mkdir {target} && mount -t cgroup -o {chosen} none {target}")
    return "\n".join(lines)
