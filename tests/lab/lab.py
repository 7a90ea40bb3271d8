"""A whole lab as a context manager: a launcher and its hosts come up together and leave nothing behind.

    with Lab(2) as lab:
        lab.launcher.run_program(["ssh", "h1", "hostname"], user="lab", check=True)

Two labs do not see each other, and neither sees the network of this machine. Needs root on Linux; see ``why_not``.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.lab import ns
from tests.lab.machines import Host, Launcher
from tests.lab.node import Node, end_machines
from tests.lab.ns import LabError
from tests.lab.specs import PRIVATE, UID, USER, Bind, HostSpec, lay_out

REPOSITORY = Path(__file__).resolve().parents[2]
_TOOLS = ("sshd", "ssh", "ssh-keygen", "ip", "iptables", "ip6tables", "nsenter", "unshare")
_STATE = re.compile(r"^fanout-lab-(\d+)-(\d+)-")


def why_not() -> str | None:
    """Return what this machine lacks for a lab, or None."""
    if sys.platform != "linux":
        return "the lab needs Linux"
    if os.geteuid() != 0:
        return "the lab needs root"
    missing = [name for name in _TOOLS if not ns.is_installed(name)]
    if missing:
        return f"the lab needs {', '.join(missing)}"
    probe = subprocess.run([ns.find_tool("unshare"), "-pmuinf", "true"], capture_output=True, text=True, check=False)
    return f"the lab needs namespaces: {probe.stderr.strip()}" if probe.returncode else None


class Lab:
    """``hosts`` is a number (h1, h2, …) or what each is to be.

    ``shared`` is a path under /home (or another private directory) that is one directory on all machines, like an NFS
    home; ``launcher_mb`` is the room for the launcher's private directories; ``binds`` makes more of this machine visible
    inside, where /tmp, /home, /root and /run are private. The Python that runs the tests and this checkout are visible in
    any case, read-only, at their own paths.
    """

    def __init__(
        self,
        hosts: int | Sequence[HostSpec] = 4,
        *,
        subnet: str = "10.77.0.0/24",
        subnet6: str = "fd77::/64",
        shared: str | None = None,
        binds: Sequence[Bind] = (),
        ssh_config: str | None = None,
        launcher_mb: int = 512,
    ) -> None:
        reason = why_not()
        if reason:
            raise LabError(reason)
        self.user, self.shared = USER, shared
        self._state = _state_directory()
        specs = [HostSpec(name=f"h{n}") for n in range(1, hosts + 1)] if isinstance(hosts, int) else list(hosts)
        dotfiles = {".ssh/config": ssh_config} if ssh_config else {}
        boss = HostSpec(name="launcher", client=True, dotfiles=dotfiles, tmp_mb=launcher_mb)
        self.plan = lay_out(boss, specs, subnet, subnet6, (*_always_visible(), *self._make_share(), *binds))
        self.launcher = Launcher(self.plan, boss)
        self.hosts = [Host(self.plan, spec, number, self.launcher) for number, spec in enumerate(specs, 1)]

    def __getitem__(self, name: str) -> Host:
        """Return the host of that name."""
        return next(host for host in self.hosts if name in host.spec.names)

    @property
    def nodes(self) -> list[Node]:
        return [self.launcher, *self.hosts]

    @property
    def names(self) -> list[str]:
        """Return all names that accept logins, in order."""
        return [name for host in self.hosts for name in host.spec.names]

    def write_hostfile(self, text: str | None = None) -> str:
        """Write hosts.txt on the launcher (all names, one slot each, unless ``text`` is given) and return its path."""
        lines = text if text is not None else "".join(f"{name} slots=1\n" for name in self.names)
        return self.launcher.write_file(f"/home/{USER}/hosts.txt", lines, user=USER)

    def __enter__(self) -> Lab:
        remove_leftovers()
        (self._state / "shared").mkdir(parents=True)
        os.chown(self._state / "shared", UID, UID)
        try:
            for node in self.nodes:
                node.start_machine()
            for node in self.nodes:
                node.expect_line("apart")
            self.launcher.send_line("plugged")
            self.launcher.expect_line("up")
            self.launcher.run_ip(*(host.build_plug_commands() for host in self.hosts))
            for host in self.hosts:
                host.send_line("plugged")
            for host in self.hosts:
                host.expect_line("up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def reset_machines(self) -> None:
        """Make all machines on, thawed, reachable and empty, as after ``__enter__``, but much faster."""
        for node in self.nodes:
            node.reset_machine()
        for entry in (self._state / "shared").iterdir():
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    def close(self) -> None:
        """End everything, and raise if anything of this lab is still there afterwards."""
        try:
            end_machines([*self.hosts, self.launcher])
        finally:
            shutil.rmtree(self._state, ignore_errors=True)
        if self._state.exists():
            raise LabError(f"the lab could not remove {self._state}")

    def _make_share(self) -> list[Bind]:
        if self.shared is None:
            return []
        places = [path for path, _ in PRIVATE]
        if not any(self.shared.startswith(f"{path}/") for path in places):
            raise LabError(f"shared={self.shared!r} has to be below one of {', '.join(places)}")
        return [Bind(source=str(self._state / "shared"), target=self.shared, writable=True)]


def _state_directory() -> Path:
    """Create a directory whose name contains its owner, so that another test run can see whether the owner lives."""
    owner = f"{os.getpid()}-{ns.start_time(os.getpid())}"
    return Path(tempfile.gettempdir(), f"fanout-lab-{owner}-{uuid.uuid4().hex[:8]}")


def _always_visible() -> list[Bind]:
    """Return mounts of the interpreter and the checkout, for hosts where a private directory would hide them."""
    wanted = {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, REPOSITORY)} | {sys.prefix}
    hidden = [path for path in sorted(wanted) if any(path.startswith(f"{private}/") for private, _ in PRIVATE)]
    return [Bind(source=path) for path in hidden]


def remove_leftovers() -> None:
    """Remove what a killed test run left: its machines died with it, so that only its directory is there."""
    for entry in Path(tempfile.gettempdir()).iterdir():
        match = _STATE.match(entry.name)
        if match and not _is_running(int(match[1]), int(match[2])):
            shutil.rmtree(entry, ignore_errors=True)


def _is_running(pid: int, started: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return ns.start_time(pid) == started
    return False
