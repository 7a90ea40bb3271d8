"""What can happen to machines, one function a fault, and how each is undone where it can be.

``strike`` does it to some hosts of a lab; ``mend`` undoes it after ``lasts``: a number of seconds, or a pattern that
fanout prints about each host ("{host}" is its name), which is how long a fault lasts that has to be noticed first.
``after`` puts right what lasted as long as the run.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import ns
from tests.lab.drive import kill
from tests.lab.machines import Host
from tests.lab.ns import Process

Act = Callable[[Host], object]
RESET = ("INPUT", "-p", "tcp", "--dport", "22", "-j", "REJECT", "--reject-with", "tcp-reset")
LOSS = ("INPUT", "-m", "statistic", "--mode", "random", "--probability", "0.1", "-j", "DROP")
CRAMPED = r"^fanout: {host}: its disk does not take"
NOTICED = r"^fanout: {host}: link lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of misfortune."""

    name: str
    strike: Act
    mend: Act | None = None
    lasts: float | str = 0.0
    after: Act | None = None

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
    os.kill(_script(host).pid, signal.SIGKILL)


def _script(host: Host) -> Process:
    found = [one for one in host.processes() if "train.sh" in one.argv and "pipefail" in one.argv and _leads(one)]
    return min(found, key=lambda one: one.started)  # a child of its own, between fork and exec, looks the same


def _leads(process: Process) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(process.pid) == process.pid
    return False


def _stop(found: Callable[[Host], list[Process]]) -> Act:
    return lambda host: ns.signal_all(found(host), signal.SIGSTOP)


def go_on(host: Host) -> None:
    ns.signal_all(keepers(host), signal.SIGCONT)


def kill_session(host: Host) -> None:
    """Every process of the login at once: train.sh, its children, the keeper, the relay.

    This is what the kernel does to a session's scope that runs out of memory (memory.oom.group), and logind to one that
    it ends.
    """
    everyone = [one for one in host.processes() if not one.is_sshd]
    ns.signal_all(everyone, signal.SIGSTOP)
    ns.signal_all(everyone, signal.SIGKILL)


def memory_groups() -> tuple[Path, str] | None:
    """Where memory control groups are made here, and the file of their limit: by the kernel's old interface or its new."""
    old, new = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    if os.access(old / "memory.limit_in_bytes", os.W_OK):
        return old, "memory.limit_in_bytes"
    with contextlib.suppress(OSError):
        if "memory" in (new / "cgroup.subtree_control").read_text().split() and os.access(new, os.W_OK):
            return new, "memory.max"
    return None


def _group(host: Host) -> tuple[Path, str]:
    """The host's control group and the file of its limit."""
    groups = memory_groups()
    if groups is None:
        raise ns.LabError("no memory control group can be made here")
    return groups[0] / f"fanout-lab-{os.getpid()}-{host.name}", groups[1]


def starve(host: Host) -> None:
    """train.sh gets a control group with hardly any memory: the next page that it wants is one too many."""
    group, limit = _group(host)
    group.mkdir(exist_ok=True)
    (group / limit).write_text(str(64 << 10))
    (group / "cgroup.procs").write_text(str(_script(host).pid))


def feed(host: Host) -> None:
    """Remove the control group, once its processes are gone."""
    group, _ = _group(host)
    ns.until(lambda: not (group / "cgroup.procs").read_text(), 20.0, f"nobody is left in {group}")
    group.rmdir()


FREEZER = Path("/sys/fs/cgroup/freezer")  # the old interface: what it holds does not even die of KILL


def hold_in_kernel(host: Host) -> None:
    """A child of train.sh is where no signal reaches it, as one that waits for a dead disk or a hung driver."""
    group = FREEZER / f"fanout-lab-{os.getpid()}-{host.name}"
    group.mkdir(exist_ok=True)
    for one in host.processes():
        if "1007" in one.argv:
            (group / "cgroup.procs").write_text(str(one.pid))
    (group / "freezer.state").write_text("FROZEN")
    ns.until(lambda: (group / "freezer.state").read_text() == "FROZEN\n", 20.0, f"{group} is frozen")


def let_go(host: Host) -> None:
    group = FREEZER / f"fanout-lab-{os.getpid()}-{host.name}"
    (group / "freezer.state").write_text("THAWED")
    ns.until(lambda: not (group / "cgroup.procs").read_text(), 20.0, f"nobody is left in {group}")
    group.rmdir()


# --- its file systems

TEMPORARY = ("/var/tmp", "/tmp", "/dev/shm")


def _remount(options: str, *places: str) -> Act:
    def strike(host: Host) -> None:
        for place in places:
            host.run(["mount", "-o", f"remount,{options}", place], check=True)

    return strike


def _fill(*places: str) -> Act:
    """The file system gets no bigger than what is in it, but for a little, and that is filled."""

    def strike(host: Host) -> None:
        for place in places:
            host.run(["mount", "-o", "remount,size=1m", place], check=True)
            host.run(["sh", "-c", f"cat /dev/zero > {place}/fill"])

    return strike


def _empty(*places: str) -> Act:
    def mend(host: Host) -> None:
        for place in places:
            host.run(["sh", "-c", f"rm -f {place}/fill; mount -o remount,size={host.spec.tmp_mb}m {place}"], check=True)

    return mend


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
        Fault(name="whole session killed", strike=kill_session),
        Fault(name="out of memory", strike=starve, after=feed),
        Fault(name="held in the kernel", strike=hold_in_kernel, after=let_go),
        Fault(name="keeper stopped 4 s", strike=_stop(keepers), mend=go_on, lasts=4.0),
        Fault(name="keeper stopped", strike=_stop(keepers), after=_end(keepers)),
        Fault(name="temporary noexec", strike=_remount("noexec", *TEMPORARY), after=_remount("exec", *TEMPORARY)),
        Fault(name="home noexec", strike=_remount("noexec", "/home"), after=_remount("exec", "/home")),
        Fault(name="home read-only", strike=_remount("ro", "/home"), after=_remount("rw", "/home")),
        Fault(name="/var/tmp read-only", strike=_remount("ro", "/var/tmp"), after=_remount("rw", "/var/tmp")),
        Fault(name="all disks read-only", strike=_remount("ro", *TEMPORARY), after=_remount("rw", *TEMPORARY)),
        Fault(name="/var/tmp full", strike=_fill("/var/tmp"), after=_empty("/var/tmp")),
        Fault(name="/var/tmp full until told", strike=_fill("/var/tmp"), mend=_empty("/var/tmp"), lasts=CRAMPED),
        Fault(name="all disks full", strike=_fill(*TEMPORARY), after=_empty(*TEMPORARY)),
        Fault(name="rebooted", strike=Host.reboot),
        Fault(name="power off", strike=Host.power_off),
        Fault(name="connection refused", strike=Host.stop_sshd),
        Fault(name="blackholed", strike=Host.blackhole),
        Fault(name="frozen", strike=Host.freeze),
    )
}
