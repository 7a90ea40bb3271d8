"""Demo config files: the text of the hostfile, ssh_config and known_hosts for the simulated hosts. Pure."""

from __future__ import annotations

from pathlib import Path

from fanout.model.frozen import frozen


@frozen
class DemoHost:
    """Simulated host: its name for ssh, its address and port, its public key, and its private state directory."""

    name: str
    address: str
    port: int
    public_key: str
    state: Path


def render_hostfile(hosts: tuple[DemoHost, ...]) -> str:
    """Return the hostfile: one line per host, in rank order, with one process each."""
    lines = [
        "# Hosts that fanout demo simulates on this machine; they answer while the demo runs.",
        "# name port=<port of its ssh server> addr=<address for the other hosts> slots=<processes on it>",
    ]
    lines += [f"{host.name} port={host.port} addr={host.address} slots=1" for host in hosts]
    return "\n".join(lines) + "\n"


def render_ssh_config(hosts: tuple[DemoHost, ...], *, user: str, identity: Path, known_hosts: Path) -> str:
    """Return a config for ``ssh -F``: the address and port of each host, and one key and one known_hosts file for all."""
    lines = ["# For the simulated hosts only: ssh -F <this file> HOST COMMAND"]
    for host in hosts:
        lines += [f"Host {host.name}", f"  HostName {host.address}", f"  Port {host.port}"]
    lines += [
        f"Host 127.0.0.* {' '.join(host.name for host in hosts if host.name != host.address)}".rstrip(),
        f"  User {user}",
        f'  IdentityFile "{identity}"',
        "  IdentitiesOnly yes",
        "  IdentityAgent none",
        f'  UserKnownHostsFile "{known_hosts}"',
        "  GlobalKnownHostsFile /dev/null",
        "  StrictHostKeyChecking yes",
        "  BatchMode yes",
    ]
    return "\n".join(lines) + "\n"


def render_known_hosts(hosts: tuple[DemoHost, ...]) -> str:
    """Return ``[address]:port ssh-ed25519 AAAA…``, one line per host."""
    return "".join(f"[{host.address}]:{host.port} {host.public_key}\n" for host in hosts)
