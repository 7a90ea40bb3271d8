"""A running machine of the lab: start programs on it, look into its files, list its processes, cut its network."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tests.lab import ns
from tests.lab.ns import LabError, Process
from tests.lab.specs import UID, USER, HostSpec, Plan, boot_order
from tests.processes import SECONDS, end_process

_INIT = str(Path(__file__).with_name("init.py"))
_PATIENCE = 20.0  # seconds for what takes milliseconds, on a machine busy with other things


class Node:
    """What the launcher and the hosts have in common. ``device`` is the network interface that faces the others."""

    device = "eth0"
    has_sshd = True

    def __init__(self, plan: Plan, spec: HostSpec) -> None:
        self.plan, self.spec, self.name = plan, spec, spec.name
        self.addresses = tuple(plan.addresses[name] for name in spec.names)
        self.address, self.address6, self.port = self.addresses[0].v4, self.addresses[0].v6, spec.port
        self._init: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._received = b""
        self._children: set[subprocess.Popen[bytes]] = set()
        self._silenced = self._filtered = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.address}{'' if self.is_on else ' off'}>"

    # --- life ---

    @property
    def is_on(self) -> bool:
        return self._init is not None and self._init.poll() is None

    @property
    def pid(self) -> int:
        """Return the pid of the machine's first process, as seen from outside."""
        if self._init is None or self._init.poll() is not None:
            raise LabError(f"{self.name} is powered off")
        return self._init.pid

    def start_machine(self) -> None:
        """Power on. What follows is a conversation: "apart" (own namespaces) - "plugged" - "up" (sshd listens)."""
        ours, theirs = socket.socketpair()
        order = boot_order(
            self.plan, self.spec, device=self.device, before=self.list_link_commands(), sshd=self.has_sshd
        )
        argv = [sys.executable, "-I", "-S", _INIT, str(theirs.fileno())]
        with theirs, ns.children_born_in(None):
            self._init = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, cwd="/", pass_fds=[theirs.fileno()], start_new_session=True
            )
        self._control, self._received = ours, b""
        ours.settimeout(_PATIENCE)
        self.send_line(json.dumps(order))

    def list_link_commands(self) -> str:
        """Commands for ``ip -batch`` that come before the addresses."""
        return ""

    def send_line(self, order: str) -> None:
        if self._control is None:
            raise LabError(f"{self.name} is powered off")
        self._control.sendall(order.encode() + b"\n")

    def expect_line(self, expected: str) -> None:
        assert self._control is not None
        while b"\n" not in self._received:
            try:
                chunk = self._control.recv(65536)
            except TimeoutError:
                raise LabError(f"{self.name} did not say {expected!r} within {_PATIENCE:g} s") from None
            if not chunk:
                raise LabError(f"{self.name} died before it said {expected!r}")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        if line.decode() != expected:
            raise LabError(f"{self.name}: {line.decode()}")

    def send_order(self, order: str) -> None:
        """Send an order to the first process of the machine (see ``init.py``)."""
        self.send_line(order)
        self.expect_line("done")

    def kill_machine(self) -> None:
        """End the machine at once, with all that runs on it, and wait until it is gone.

        Programs that we started inside are our children, and the kernel keeps the machine's first process waiting until
        we have buried them.
        """
        if self._init is not None:
            self._init.kill()
            for child in self._children:
                child.wait(SECONDS)
            self._init.wait(SECONDS)
        if self._control is not None:
            self._control.close()
        self._init, self._control, self._children = None, None, set()
        self._silenced = self._filtered = False

    # --- programs ---

    def build_environment(self, user: str) -> dict[str, str]:
        home = "/root" if user == "root" else f"/home/{user}"
        basic = {"HOME": home, "USER": user, "LOGNAME": user, "SHELL": self.spec.shell}
        return basic | {"PATH": ns.SEARCH_PATH, "LANG": "C.UTF-8"}

    def start_program(
        self,
        argv: Sequence[str],
        *,
        user: str = "root",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
        stderr: int | None = None,
        pass_fds: Sequence[int] = (),
        start_new_session: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Start a program inside. It is a direct child: pid, ``send_signal`` and ``wait`` mean the program itself."""
        environment = self.build_environment(user) | dict(env or {})
        uid = {"root": 0, USER: UID}[user]
        command = ns.build_enter_command(self.pid, argv, uid=uid, cwd=cwd or environment["HOME"])
        with ns.children_born_in(self.pid):
            child = subprocess.Popen(
                command,
                env=environment,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                start_new_session=start_new_session,
            )
        self._children -= {old for old in tuple(self._children) if old.poll() is not None}
        self._children.add(child)
        return child

    def run_program(
        self,
        argv: Sequence[str],
        *,
        user: str = "root",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout: float = 60.0,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end; too late, and it is killed and ``subprocess.TimeoutExpired`` raised."""
        pipe = subprocess.PIPE
        source = subprocess.DEVNULL if stdin is None else pipe
        child = self.start_program(argv, user=user, cwd=cwd, env=env, stdin=source, stdout=pipe, stderr=pipe)
        try:
            out, err = child.communicate(None if stdin is None else stdin.encode(), timeout)
        except BaseException:
            end_process(child, kill=True)
            raise
        done = subprocess.CompletedProcess(
            list(argv), child.returncode, out.decode(errors="replace"), err.decode(errors="replace")
        )
        if check and done.returncode:
            raise LabError(
                f"{self.name}: {' '.join(argv)} exited {done.returncode}: {done.stderr or done.stdout}".strip()
            )
        return done

    def list_processes(self) -> list[Process]:
        """Return all processes of the machine except its first one and the listening sshd, as seen from outside."""
        if not self.is_on:
            return []
        everyone = ns.list_inhabitants({ns.read_namespace(self.pid, "pid")})
        return [process for process in everyone if process.pid != self.pid and not self._is_listening(process)]

    def _is_listening(self, process: Process) -> bool:
        return process.is_sshd and process.parent == self.pid and any("/run/lab/sshd_config" in a for a in process.argv)

    # --- files ---

    def get_path(self, inside: str | Path) -> Path:
        """Return the path of a file of the machine, reachable from outside while it is on (not through absolute symbolic links)."""
        return Path(f"/proc/{self.pid}/root", str(inside).lstrip("/"))

    def write_file(self, path: str, text: str, *, user: str = "root", mode: int = 0o644) -> str:
        """Write a file inside, with the directories that it needs, and return its path inside."""
        uid, parent = {"root": 0, USER: UID}[user], Path(path).parent
        missing = [place for place in (parent, *parent.parents) if not self.get_path(place).exists()]
        for place in reversed(missing):
            self.get_path(place).mkdir()
            os.chown(self.get_path(place), uid, uid)
        file = self.get_path(path)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)
        os.chown(file, uid, uid)
        return path

    def read_file(self, path: str) -> str:
        return self.get_path(path).read_text(encoding="utf-8", errors="replace")

    # --- network ---

    def run_ip(self, *commands: str) -> None:
        """``ip -batch`` in the machine's network, but seeing all pids, so that cables can be laid to other machines."""
        argv = [ns.find_tool("nsenter"), f"--target={self.pid}", "--net", ns.find_tool("ip"), "-batch", "-"]
        text = "\n".join(commands) + "\n"
        done = subprocess.run(argv, input=text, text=True, capture_output=True, check=False)
        if done.returncode:
            raise LabError(f"{self.name}: ip: {done.stderr.strip()}\n{text}")

    def run_iptables(self, *arguments: str, v6: bool = False) -> str:
        """Change the machine's packet filter; what it prints is returned."""
        self._filtered = True
        return self.run_program(["ip6tables" if v6 else "iptables", "-w", *arguments], check=True).stdout

    def drop_packets(self) -> None:
        """Drop every packet from and to the others, without an error; the interface stays up."""
        if not self._silenced:
            self._set_drop_rules("-I")
            self._silenced = True

    def stop_dropping(self) -> None:
        """Undo ``blackhole``."""
        if self._silenced:
            self._set_drop_rules("-D")
            self._silenced = False

    def _set_drop_rules(self, action: str) -> None:
        for v6 in (False, True):
            self.run_iptables(action, "INPUT", "-i", self.device, "-j", "DROP", v6=v6)
            self.run_iptables(action, "OUTPUT", "-o", self.device, "-j", "DROP", v6=v6)

    def reset_machine(self) -> None:
        """Back to how it was after boot, in files, filter and processes; cheaper than a reboot."""
        if self._filtered:
            self.run_iptables("-F")
            self.run_iptables("-F", v6=True)
            self._silenced = self._filtered = False
        left = self.list_processes()
        ns.signal_all(left, signal.SIGKILL)
        ns.wait_gone([process.pid for process in left], _PATIENCE)
        self.send_order("wipe")


def end_machines(nodes: Collection[Node]) -> None:
    """End the machines and all processes in their namespaces, also those that entered from outside."""
    with ns.hold_namespaces([node.pid for node in nodes if node.is_on]) as namespaces:
        for node in nodes:
            node.kill_machine()
        # a machine that failed to become one may still be in our own
        left = ns.list_inhabitants(namespaces - ns.own_namespaces(), ("pid", "net", "mnt"))
    if left:
        raise LabError("the lab left processes behind:\n" + "\n".join(map(str, left)))
