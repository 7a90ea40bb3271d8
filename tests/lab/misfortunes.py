"""Faults of machines: one function strikes with each fault, and another undoes it if possible.

``strike`` does it to some hosts of a lab; ``undo`` undoes it after ``lasts``: a number of seconds, or a pattern that
fanout prints about each host ("{host}" is its name), which is how long a fault lasts that has to be noticed first.
``after`` puts right what lasted as long as the run.

Every fault proves that it took effect, or raises LabError: ``strike`` waits for its own effect, ``sshd`` is what a new
connection meets while the fault is in force, and ``drops`` asks whether a packet met a rule of the filter by its end.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab import ns, proofs
from tests.lab.drive import list_processes
from tests.lab.machines import Host
from tests.lab.ns import Process

Act = Callable[[Host], object]
RESET = ("INPUT", "-p", "tcp", "--dport", "22", "-j", "REJECT", "--reject-with", "tcp-reset")
LOSS = ("INPUT", "-m", "statistic", "--mode", "random", "--probability", "0.1", "-j", "DROP")
CRAMPED = r"^fanout: {host}: its disk does not accept"
NOTICED = r"^fanout: {host}: link lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of misfortune."""

    name: str
    strike: Act
    undo: Act | None = None
    lasts: float | str = 0.0
    after: Act | None = None
    sshd: str = ""
    drops: bool = False

    def __call__(self, hosts: Sequence[Host]) -> None:
        """Strike all hosts; raise LabError where it had no effect."""
        if isinstance(self.strike, Kill):
            self.strike.kill_together(hosts)
        else:
            for host in hosts:
                self.strike(host)
        if self.sshd:
            proofs.assert_sshd_answers(hosts, self.sshd, self.name)

    def assert_met(self, hosts: Sequence[Host]) -> None:
        """Raise LabError where the fault, which is about to be undone, met nothing."""
        if self.drops:
            proofs.assert_packets_dropped(hosts, self.name)


# --- the agent's processes


def list_keepers(host: Host) -> list[Process]:
    """Return the keepers: children of the first process of the machine or of a container."""
    return _list_agents(host, are_keepers=True)


def list_relays(host: Host) -> list[Process]:
    """Return the relays: children of a login, or of the engine's process that enters a container."""
    return _list_agents(host, are_keepers=False)


def _list_agents(host: Host, *, are_keepers: bool) -> list[Process]:
    everyone = host.list_with_containers()
    first = {one.pid for one in everyone if one.inner == 1}
    agents = [one for one in everyone if "-I" in one.argv and "-S" in one.argv and one.inner != 1]
    return [one for one in agents if (one.parent in first) == are_keepers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """SIGKILL for what ``found`` finds on a host, or on several hosts at once."""

    what: str
    found: Callable[[Host], list[Process]]

    def __call__(self, host: Host) -> None:
        self.kill_together([host])

    def kill_together(self, hosts: Sequence[Host]) -> None:
        """Wait until every host has such a process, then kill them at once: an earlier fault may have ended one."""
        ns.wait_until(lambda: all(map(self.found, hosts)), proofs.PATIENCE, f"{self.what} on {len(hosts)} hosts")
        proofs.kill_together({host.name: self.found(host) for host in hosts}, self.what)


def _list_script_process(host: Host) -> list[Process]:
    """Return the process of train.sh itself, as a list of one; empty where it does not run."""
    found = [
        one
        for one in host.list_processes()
        if "train.sh" in one.argv and "pipefail" in one.argv and _leads_session(one)
    ]
    return sorted(found, key=lambda one: one.started)[:1]  # a child of its own, between fork and exec, looks the same


def _leads_session(process: Process) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(process.pid) == process.pid
    return False


def _build_stop(what: str, found: Callable[[Host], list[Process]]) -> Act:
    return lambda host: proofs.stop_all(host, found(host), what)


def go_on(host: Host) -> None:
    ns.signal_all(list_keepers(host), signal.SIGCONT)


def kill_session(host: Host) -> None:
    """Kill every process of the login at once: train.sh, its children, the keeper, the relay.

    This is what the kernel does to a session's scope that runs out of memory (memory.oom.group), and logind to one that
    it ends.
    """
    everyone = [one for one in host.list_processes() if not one.is_sshd]
    ns.signal_all(everyone, signal.SIGSTOP)
    proofs.kill_all(host, everyone, "session")


def memory_groups() -> tuple[Path, str] | None:
    """Return the directory for memory control groups and the name of their limit file, in cgroup v1 or v2."""
    old, new = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    if os.access(old / "memory.limit_in_bytes", os.W_OK):
        return old, "memory.limit_in_bytes"
    with contextlib.suppress(OSError):
        if "memory" in (new / "cgroup.subtree_control").read_text().split() and os.access(new, os.W_OK):
            return new, "memory.max"
    return None


def _make_group(host: Host) -> tuple[Path, str]:
    """Return the host's control group and the path of its limit file."""
    groups = memory_groups()
    if groups is None:
        raise ns.LabError("no memory control group can be made here")
    return groups[0] / f"fanout-lab-{os.getpid()}-{host.name}", groups[1]


def limit_memory(host: Host) -> None:
    """train.sh gets a control group with hardly any memory: the next page that it wants is one too many."""
    group, limit = _make_group(host)
    group.mkdir(exist_ok=True)
    (group / limit).write_text(str(64 << 10))
    (script,) = _list_script_process(host)
    (group / "cgroup.procs").write_text(str(script.pid))
    ns.wait_until(
        lambda: _oom_kills(group) > 0, proofs.PATIENCE, f"the kernel kills train.sh of {host.name} for memory"
    )


def _oom_kills(group: Path) -> int:
    """Return how many processes of a control group the kernel has killed for memory."""
    for name in ("memory.events", "memory.oom_control"):
        if (group / name).exists():
            found = re.search(r"^oom_kill (\d+)$", (group / name).read_text(), re.MULTILINE)
            return int(found[1]) if found else 0
    raise ns.LabError(f"{group} does not count what the kernel kills")


def remove_memory_limit(host: Host) -> None:
    """Remove the control group, once its processes are gone."""
    group, _ = _make_group(host)
    ns.wait_until(lambda: not (group / "cgroup.procs").read_text(), 20.0, f"no process is left in {group}")
    group.rmdir()


FREEZER = Path("/sys/fs/cgroup/freezer")  # the old interface: what it holds does not even die of KILL


def hold_in_kernel(host: Host) -> None:
    """Hold a child of train.sh where no signal reaches it, as if it waited for a dead disk or a hung driver."""
    group = FREEZER / f"fanout-lab-{os.getpid()}-{host.name}"
    group.mkdir(exist_ok=True)
    ns.wait_until(
        lambda: len(_list_sleepers(host)) == 1, proofs.PATIENCE, f"train.sh of {host.name} has started its child"
    )
    (child,) = _list_sleepers(host)  # after its exec: a process that is between fork and exec may still be replaced
    (group / "cgroup.procs").write_text(str(child.pid))
    (group / "freezer.state").write_text("FROZEN")
    ns.wait_until(lambda: (group / "freezer.state").read_text() == "FROZEN\n", proofs.PATIENCE, f"{group} is frozen")
    if (group / "cgroup.procs").read_text().split() != [str(child.pid)]:
        raise ns.LabError(f"{group} does not hold {child}")


def hold_and_kill_keeper(host: Host) -> None:
    """Hold a child of train.sh in the kernel and kill the keeper: what the keeper cannot end outlives it."""
    hold_in_kernel(host)
    Kill(what="keeper", found=list_keepers)(host)


def _list_sleepers(host: Host) -> list[Process]:
    return [one for one in host.list_processes() if one.argv == ("sleep", "1007")]


def let_go(host: Host) -> None:
    group = FREEZER / f"fanout-lab-{os.getpid()}-{host.name}"
    (group / "freezer.state").write_text("THAWED")
    ns.wait_until(lambda: not (group / "cgroup.procs").read_text(), 20.0, f"no process is left in {group}")
    group.rmdir()


# --- its file systems

TEMPORARY = ("/var/tmp", "/tmp", "/dev/shm")


def _build_remount(options: str, *places: str) -> Act:
    def remount_places(host: Host) -> None:
        for place in places:
            host.run_program(["mount", "-o", f"remount,{options}", place], check=True)
            if options != "exec":  # the kernel lists no option for what it allows anyway
                proofs.assert_mounted(host, place, options)

    return remount_places


def _build_fill(*places: str) -> Act:
    """Limit the file system to little more than its present size, and fill the rest."""

    def fill_places(host: Host) -> None:
        for place in places:
            host.run_program(["mount", "-o", "remount,size=1m", place], check=True)
            filled = host.run_program(["sh", "-c", f"cat /dev/zero > {place}/fill"])
            if "No space left" not in filled.stderr:
                raise ns.LabError(f"{host.name}: {place} is not full: {filled.stderr}")

    return fill_places


def _build_empty(*places: str) -> Act:
    def empty_places(host: Host) -> None:
        for place in places:
            host.run_program(
                ["sh", "-c", f"rm -f {place}/fill; mount -o remount,size={host.spec.tmp_mb}m {place}"], check=True
            )

    return empty_places


# --- the network


def cut_sessions(host: Host) -> None:
    """Kill the login sessions, as when a jump host goes down."""
    ns.wait_until(lambda: bool(list_processes(host, "sshd", "notty")), proofs.PATIENCE, f"{host.name} has a session")
    proofs.kill_all(host, list_processes(host, "sshd", "notty"), "session of sshd")


def reset_connections(host: Host) -> None:
    """Answer every packet to sshd with RST, on open connections and new ones."""
    for v6 in (False, True):
        host.run_iptables("-I", *RESET, v6=v6)


def stop_resets(host: Host) -> None:
    for v6 in (False, True):
        host.run_iptables("-D", *RESET, v6=v6)


def lose_packets(host: Host) -> None:
    """Drop one packet in ten."""
    for v6 in (False, True):
        host.run_iptables("-I", *LOSS, v6=v6)


def list_kept(host: Host) -> None:
    for v6 in (False, True):
        host.run_iptables("-D", *LOSS, v6=v6)


def sshd_away(host: Host) -> None:
    """sshd is stopped with all its sessions, as by an upgrade of the package."""
    host.stop_sshd()
    for process in host.list_processes():
        if process.is_sshd:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def pull_cable(host: Host) -> None:
    """Take the carrier from the host's interface."""
    host.link_down()
    carrier = f"/sys/class/net/{host.device}/carrier"
    ns.wait_until(lambda: host.read_file(carrier).strip() == "0", proofs.PATIENCE, f"{host.name} has no carrier")


def reboot_host(host: Host) -> None:
    """Switch the host off and on again: new first process, empty memory."""
    before = host.pid
    host.reboot_machine()
    if host.pid == before:
        raise ns.LabError(f"{host.name} did not reboot")


def _silenced_for_good(host: Host) -> None:
    """Silence until the host has given up by itself."""
    host.drop_packets()
    ns.wait_until(lambda: not list_keepers(host), 60.0, f"{host.name} ends the run by itself")


FAULTS = {
    fault.name: fault
    for fault in (
        Fault(name="session cut", strike=cut_sessions),
        Fault(name="relay killed", strike=Kill(what="relay", found=list_relays)),
        Fault(name="connections reset", strike=reset_connections, undo=stop_resets, lasts=NOTICED, sshd="refused", drops=True),
        Fault(name="blackhole 4 s", strike=Host.drop_packets, undo=Host.stop_dropping, lasts=4.0, sshd="silent", drops=True),
        Fault(name="blackhole until noticed", strike=Host.drop_packets, undo=Host.stop_dropping, lasts=NOTICED, sshd="silent"),
        Fault(name="blackhole beyond the lease", strike=_silenced_for_good, undo=Host.stop_dropping, lasts=0.0, drops=True),
        Fault(name="cable out 3 s", strike=pull_cable, undo=Host.link_up, lasts=3.0, sshd="silent"),
        Fault(name="one packet in ten lost", strike=lose_packets, undo=list_kept, lasts=5.0, drops=True),
        Fault(name="sshd restarted", strike=sshd_away, undo=Host.start_sshd, lasts=NOTICED, sshd="refused"),
        Fault(name="frozen 3 s", strike=Host.freeze_processes, undo=Host.thaw_processes, lasts=3.0, sshd="mute"),
        Fault(name="frozen until noticed", strike=Host.freeze_processes, undo=Host.thaw_processes, lasts=NOTICED, sshd="mute"),
        Fault(name="keeper killed", strike=Kill(what="keeper", found=list_keepers)),
        Fault(name="script killed", strike=Kill(what="train.sh", found=_list_script_process)),
        Fault(name="whole session killed", strike=kill_session),
        Fault(name="out of memory", strike=limit_memory, after=remove_memory_limit),
        Fault(name="held in the kernel", strike=hold_in_kernel, after=let_go),
        Fault(name="held in the kernel, its keeper killed", strike=hold_and_kill_keeper, after=let_go),
        Fault(name="frozen beyond the lease", strike=Host.freeze_processes, undo=Host.thaw_processes, lasts="no connection for"),
        Fault(name="keeper stopped 4 s", strike=_build_stop("keeper", list_keepers), undo=go_on, lasts=4.0),
        Fault(name="keeper stopped", strike=_build_stop("keeper", list_keepers), after=Kill(what="keeper", found=list_keepers)),
        Fault(name="temporary noexec", strike=_build_remount("noexec", *TEMPORARY), after=_build_remount("exec", *TEMPORARY)),
        Fault(name="home noexec", strike=_build_remount("noexec", "/home"), after=_build_remount("exec", "/home")),
        Fault(name="home read-only", strike=_build_remount("ro", "/home"), after=_build_remount("rw", "/home")),
        Fault(name="/var/tmp read-only", strike=_build_remount("ro", "/var/tmp"), after=_build_remount("rw", "/var/tmp")),
        Fault(name="all disks read-only", strike=_build_remount("ro", *TEMPORARY), after=_build_remount("rw", *TEMPORARY)),
        Fault(name="/var/tmp full", strike=_build_fill("/var/tmp"), after=_build_empty("/var/tmp")),
        Fault(name="/var/tmp full until told", strike=_build_fill("/var/tmp"), undo=_build_empty("/var/tmp"), lasts=CRAMPED),
        Fault(name="all disks full", strike=_build_fill(*TEMPORARY), after=_build_empty(*TEMPORARY)),
        Fault(name="rebooted", strike=reboot_host),
        Fault(name="power off", strike=Host.power_off, sshd="silent"),
        Fault(name="connection refused", strike=Host.stop_sshd, sshd="refused"),
        Fault(name="blackholed", strike=Host.drop_packets, sshd="silent"),
        Fault(name="frozen", strike=Host.freeze_processes, sshd="mute"),
    )
}  # fmt: skip
