"""What can happen to machines, one function a fault, and how each is undone where it can be.

``strike`` does it to some hosts of a lab; ``mend`` undoes it after ``lasts``: a number of seconds, or a pattern that
fanout prints about each host ("{host}" is its name), which is how long a fault lasts that has to be noticed first.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.lab import ns
from tests.lab.drive import kill
from tests.lab.machines import Host
from tests.lab.ns import Process

Act = Callable[[Host], object]
RESET = ("INPUT", "-p", "tcp", "--dport", "22", "-j", "REJECT", "--reject-with", "tcp-reset")
LOSS = ("INPUT", "-m", "statistic", "--mode", "random", "--probability", "0.1", "-j", "DROP")
NOTICED = r"^fanout: {host}: link lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of misfortune."""

    name: str
    strike: Act
    mend: Act | None = None
    lasts: float | str = 0.0

    def __call__(self, hosts: Sequence[Host]) -> None:
        for host in hosts:
            self.strike(host)


# --- the agent's processes


def _agents(host: Host) -> list[Process]:
    return [one for one in host.processes() if "-I" in one.argv and "-S" in one.argv]


def keepers(host: Host) -> list[Process]:
    """A keeper belongs to the machine's first process."""
    return [one for one in _agents(host) if one.parent == host.pid]


def relays(host: Host) -> list[Process]:
    """A relay belongs to its login."""
    return [one for one in _agents(host) if one.parent != host.pid]


def _end(found: Callable[[Host], list[Process]]) -> Act:
    def strike(host: Host) -> None:
        ns.signal_all(found(host), signal.SIGKILL)

    return strike


def kill_script(host: Host) -> None:
    """train.sh itself, by somebody's ``kill -9``."""
    found = [one for one in host.processes() if "train.sh" in one.argv and "pipefail" in one.argv and _leads(one)]
    script = min(found, key=lambda one: one.started)  # a child of its own, between fork and exec, looks the same
    os.kill(script.pid, signal.SIGKILL)


def _leads(process: Process) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(process.pid) == process.pid
    return False


# --- the network


def cut(host: Host) -> None:
    """The login sessions die, as when somebody ends them, or a jump host goes down."""
    kill(host, "sshd", "notty")


def reset(host: Host) -> None:
    """Every packet to sshd is answered with RST, on open connections and new ones."""
    for v6 in (False, True):
        host.iptables("-I", *RESET, v6=v6)


def unreset(host: Host) -> None:
    for v6 in (False, True):
        host.iptables("-D", *RESET, v6=v6)


def lose(host: Host) -> None:
    """One packet in ten does not arrive."""
    host.iptables("-I", *LOSS)


def kept(host: Host) -> None:
    host.iptables("-D", *LOSS)


def sshd_away(host: Host) -> None:
    """sshd is stopped with all its sessions, as by an upgrade of the package."""
    host.stop_sshd()
    for process in host.processes():
        if process.is_sshd:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def _silenced_for_good(host: Host) -> None:
    """Silence until the host has given up by itself."""
    host.blackhole()
    ns.until(lambda: not keepers(host), 60.0, f"{host.name} ends the run by itself")


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(name="session cut", strike=cut),
        Fault(name="relay killed", strike=_end(relays)),
        Fault(name="connections reset", strike=reset, mend=unreset, lasts=NOTICED),
        Fault(name="blackhole 4 s", strike=Host.blackhole, mend=Host.heal, lasts=4.0),
        Fault(name="blackhole until noticed", strike=Host.blackhole, mend=Host.heal, lasts=NOTICED),
        Fault(name="blackhole beyond the lease", strike=_silenced_for_good, mend=Host.heal, lasts=0.0),
        Fault(name="cable out 3 s", strike=Host.link_down, mend=Host.link_up, lasts=3.0),
        Fault(name="one packet in ten lost", strike=lose, mend=kept, lasts=5.0),
        Fault(name="sshd restarted", strike=sshd_away, mend=Host.start_sshd, lasts=NOTICED),
        Fault(name="frozen 3 s", strike=Host.freeze, mend=Host.thaw, lasts=3.0),
        Fault(name="frozen until noticed", strike=Host.freeze, mend=Host.thaw, lasts=NOTICED),
        Fault(name="keeper killed", strike=_end(keepers)),
        Fault(name="script killed", strike=kill_script),
        Fault(name="rebooted", strike=Host.reboot),
        Fault(name="power off", strike=Host.power_off),
        Fault(name="connection refused", strike=Host.stop_sshd),
        Fault(name="blackholed", strike=Host.blackhole),
        Fault(name="frozen", strike=Host.freeze),
    )
}
