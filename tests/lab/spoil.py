"""How a host of the lab is spoilt, and what that must make a check say: faults, scenes of them, ways to inject one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.lab.lab import Lab
from tests.lab.node import Node
from tests.lab.specs import HostSpec

HOME = "/home/lab"
Inject = Callable[[Node], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """``inject`` on ``host`` makes ``check`` say something at ``level`` there; ``also`` is (check, level) beside it."""

    check: str
    level: str
    host: str
    inject: Inject
    also: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """``files`` are on every machine, below the home directory or by absolute path; ``slots`` is the hostfile's."""

    faults: tuple[Fault, ...]
    files: Mapping[str, str]
    hosts: Mapping[str, HostSpec] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    slots: int = 1
    shared: str | None = None
    project: str = f"{HOME}/proj"
    everywhere: tuple[tuple[str, str], ...] = ()  # (check, level) that this scene makes all hosts speak of
    ready: str = ""  # shell, as root, that every host needs before its fault

    def open_lab(self) -> Lab:
        count = max(int(fault.host[1:]) for fault in self.faults)
        names = [f"h{number}" for number in range(1, count + 1)]
        return Lab([self.hosts.get(name, HostSpec(name=name)) for name in names], shared=self.shared)

    def furnish_node(self, node: Node) -> None:
        for path, text in self.files.items():
            mode = 0o755 if text.startswith("#!") else 0o644
            node.write_file(path if path.startswith("/") else f"{HOME}/{path}", text, user="lab", mode=mode)
        if self.ready and node.has_sshd:
            node.run_program(["sh", "-ec", self.ready], check=True)


# -- how a host is spoilt


def write_on_host(path: str, text: str, *, user: str = "lab", mode: int = 0o644) -> Inject:
    return lambda node: _ignore_value(
        node.write_file(path if path.startswith("/") else f"{HOME}/{path}", text, user=user, mode=mode)
    )


def _ignore_value(_: object) -> None:
    """Ignore a value that the caller does not need."""


def run_on_host(script: str, *, user: str = "root") -> Inject:
    """Return a fault that runs a line of shell on the host."""
    return lambda node: _ignore_value(node.run_program(["sh", "-c", script], user=user, check=True))


def add_rc_line(line: str) -> Inject:
    """Return a fault that adds a line to the login's rc file."""
    return write_on_host(".bashrc", f"{line}\n")


def inject_all(*injects: Inject) -> Inject:
    def inject_faults(node: Node) -> None:
        for one in injects:
            one(node)

    return inject_faults


def run_python(code: str, *, user: str = "root", env: Mapping[str, str] | None = None) -> Inject:
    """Return a fault that starts a Python program; it prints a line once it is ready."""

    def start_child(node: Node) -> None:
        child = node.start_program([sys.executable, "-c", code], user=user, env=env, stdout=subprocess.PIPE)
        assert child.stdout is not None
        with child.stdout as stdout:
            assert stdout.readline() == b"up\n"

    return start_child
