"""The two kinds of machine: hosts, to which everything bad can happen, and the launcher, which holds the switch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.lab import ns
from tests.lab.node import Node, end_machines
from tests.lab.ns import Process
from tests.lab.specs import HostSpec, Plan


class Launcher(Node):
    """Where fanout is executed: no sshd, but the key to every host, and the Python of the tests first on PATH.

    The bridge that joins all machines is a device of this one, so that it vanishes with it.
    """

    device = "br0"
    has_sshd = False

    def list_link_commands(self) -> str:
        options = "type bridge forward_delay 0 mcast_snooping 0"
        return f"link add {self.device} address 02:4c:00:00:00:01 {options}\n"

    def build_environment(self, user: str) -> dict[str, str]:
        basic = super().build_environment(user)
        return basic | {"PATH": f"{os.path.dirname(sys.executable)}:{basic['PATH']}"}


class Host(Node):
    """A machine to log in to."""

    def __init__(self, plan: Plan, spec: HostSpec, number: int, launcher: Launcher) -> None:
        super().__init__(plan, spec)
        self.launcher = launcher
        self.port_name = f"port{number}"
        self._mac = f"02:4d:00:00:{number >> 8:02x}:{number & 255:02x}"  # it stays the same over a reboot
        self._frozen: tuple[Process, ...] = ()

    def run_checked(
        self, argv: list[str], *, user: str = "root", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """``run`` for the many cases where failing is not what is tested."""
        return self.run_program(argv, user=user, check=check)

    def list_with_containers(self) -> list[Process]:
        """Return all processes of the machine and of its containers, which have the network of the machine."""
        if not self.is_on:
            return []
        return ns.list_inhabitants({ns.read_namespace(self.pid, kind) for kind in ("pid", "net")}, ("pid", "net"))

    # --- power ---

    def build_plug_commands(self) -> str:
        """Commands, for the launcher's ``ip``, that lay the cable."""
        cable = f"link add {self.port_name} type veth peer name {self.device} address {self._mac} netns {self.pid}"
        return f"{cable}\nlink set {self.port_name} master {self.launcher.device} up"

    def power_on(self) -> None:
        if not self.is_on:
            self.start_machine()
            self.expect_line("apart")
            self.launcher.run_ip(self.build_plug_commands())
            self.send_line("plugged")
            self.expect_line("up")

    def power_off(self) -> None:
        """Switch the machine off as if unplugged: no connection is closed, and unsaved data is lost."""
        if self.is_on:
            self.launcher.run_ip(f"link del {self.port_name}")
            end_machines([self])
            self._frozen = ()

    def reboot_machine(self) -> None:
        """Off and on again: empty memory, another boot id."""
        self.power_off()
        self.power_on()

    # --- faults ---

    def freeze_processes(self) -> None:
        """Stop every process; the kernel still answers, as on a machine that thrashes."""
        stopped: dict[int, Process] = {}

        def all_stopped() -> bool:
            moving = [p for p in self._list_mortal_processes() if p.state not in "Tt"]
            fresh = [p for p in moving if p.pid not in stopped]
            ns.signal_all(fresh, signal.SIGSTOP)
            stopped.update({p.pid: p for p in fresh})
            return not moving

        ns.wait_until(all_stopped, 10.0, f"{self.name} frozen")
        self._frozen += tuple(stopped.values())

    def thaw_processes(self) -> None:
        """Undo ``freeze``; what had been stopped before stays stopped."""
        alive = {(p.pid, p.started) for p in self._list_mortal_processes()}
        ns.signal_all([p for p in self._frozen if (p.pid, p.started) in alive], signal.SIGCONT)
        self._frozen = ()

    def _list_mortal_processes(self) -> list[Process]:
        return [p for p in ns.list_inhabitants({ns.read_namespace(self.pid, "pid")}) if p.pid != self.pid]

    def link_down(self) -> None:
        """Unplug the cable: the host's interface loses its carrier."""
        self.launcher.run_ip(f"link set {self.port_name} down")

    def link_up(self) -> None:
        self.launcher.run_ip(f"link set {self.port_name} up")

    def stop_sshd(self) -> None:
        """New connections are refused; sessions that are open live on."""
        self.send_order("sshd-stop")

    def start_sshd(self) -> None:
        self.send_order("sshd-start")

    def restart_sshd(self) -> None:
        self.stop_sshd()
        self.start_sshd()

    def sshd_log(self) -> str:
        return self.read_file("/run/lab/sshd.log")

    def reset_machine(self) -> None:
        if not self.is_on:
            self.power_on()
        self.link_up()
        self.thaw_processes()
        super().reset_machine()
        self.start_sshd()
