"""Evidence that a fault took effect: a fault that misses its target raises LabError instead of testing nothing."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab import ns
from tests.lab.machines import Host
from tests.lab.node import Node
from tests.lab.ns import LabError, Process

PATIENCE = 20.0  # seconds that a fault may take to become visible on a busy machine
PROBE_SECONDS = 0.4

# A new connection to sshd of each address: "refused", "silent" (nothing answers), "mute" (no banner), or "open".
_PROBE = f"""
import json, selectors, socket, sys, time
state, waiting = {{}}, selectors.DefaultSelector()
for address in sys.argv[1:]:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    sock.setblocking(False)
    state[address] = "silent"
    sock.connect_ex((address, 22))
    waiting.register(sock, selectors.EVENT_WRITE, address)
deadline = time.monotonic() + {PROBE_SECONDS}
while waiting.get_map() and (left := deadline - time.monotonic()) > 0:
    for key, event in waiting.select(left):
        sock, address = key.fileobj, key.data
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            state[address] = "refused" if error in (104, 111) else "silent"
            waiting.unregister(sock)
        elif event & selectors.EVENT_WRITE:
            state[address] = "mute"
            waiting.modify(sock, selectors.EVENT_READ, address)
        else:
            try:
                state[address] = "open" if sock.recv(1) else "refused"
            except OSError:
                state[address] = "refused"
            waiting.unregister(sock)
print(json.dumps(state))
"""


def answers_of_sshd(hosts: Sequence[Host]) -> dict[str, str]:
    """Return what a new connection from the launcher meets on each host, by the host's name."""
    addresses = {host.address: host.name for host in hosts}
    done = hosts[0].launcher.run_program([sys.executable, "-c", _PROBE, *addresses], check=True)
    return {addresses[address]: state for address, state in json.loads(done.stdout).items()}


def assert_sshd_answers(hosts: Sequence[Host], expected: str, fault: str) -> None:
    """Raise LabError unless a new connection to every host is ``expected``."""
    for name, state in answers_of_sshd(hosts).items():
        if state != expected:
            raise LabError(f"{fault} did not take effect on {name}: its sshd is {state}, not {expected}")


def kill_all(host: Node, victims: Sequence[Process], what: str) -> None:
    """Kill the processes and wait until they are gone; raise LabError where there is none."""
    kill_together({host.name: victims}, what)


def kill_together(victims: Mapping[str, Sequence[Process]], what: str) -> None:
    """Kill the processes of several hosts at once, by the name of the host, and wait until they are gone.

    The launcher reacts to the first one within milliseconds: one host after the other would meet another phase.
    """
    for name, found in victims.items():
        if not found:
            raise LabError(f"{name} has no {what} to kill")
    everyone = [one for found in victims.values() for one in found]
    ns.signal_all(everyone, signal.SIGKILL)
    if not ns.wait_gone([one.pid for one in everyone], PATIENCE):
        raise LabError(f"{', '.join(victims)}: {what} is still there {PATIENCE:g} s after SIGKILL")


def stop_all(host: Host, victims: Sequence[Process], what: str) -> None:
    """Stop the processes and wait until the kernel reports them stopped; raise LabError where there is none."""
    if not victims:
        raise LabError(f"{host.name} has no {what} to stop")
    ns.signal_all(victims, signal.SIGSTOP)
    for one in victims:
        ns.wait_until(lambda one=one: state_of(one.pid) in "Tt", PATIENCE, f"{host.name}: {what} is stopped")  # type: ignore[misc]


def state_of(pid: int) -> str:
    """Return the kernel's one-letter state of a process, "X" where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def assert_mounted(host: Host, place: str, options: str) -> None:
    """Raise LabError unless the newest mount at ``place`` has each of the comma-separated options."""
    lines = Path(f"/proc/{host.pid}/mounts").read_text(encoding="utf-8").splitlines()
    found = [line.split()[3].split(",") for line in lines if line.split()[1] == place]
    if not found or not set(options.split(",")) <= set(found[-1]):
        raise LabError(f"{host.name}: {place} is not mounted {options}: {found}")


def dropped_packets(host: Host) -> int:
    """Return how many packets the DROP and REJECT rules of the host have met, over IPv4 and IPv6."""
    listed = "".join(host.run_iptables("-nvxL", v6=v6) for v6 in (False, True))
    return sum(int(count) for count in re.findall(r"^\s*(\d+)\s+\d+\s+(?:DROP|REJECT)\b", listed, re.MULTILINE))


def assert_packets_dropped(hosts: Sequence[Host], fault: str) -> None:
    """Raise LabError where no packet met a rule of the fault."""
    for host in hosts:
        if not dropped_packets(host):
            raise LabError(f"{fault} did not take effect on {host.name}: no packet met its rule")
