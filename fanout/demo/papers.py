"""The texts that an embedded lab hands out: hostfile, ssh_config and known_hosts, from the hosts that it plays (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One played host: the name that ssh is given, where it listens, its public key, and its private state directory."""

    name: str
    address: str
    port: int
    public_key: str
    state: Path


def hostfile(hosts: tuple[Played, ...]) -> str:
    """One line a host, in rank order, one process each."""
    lines = [
        "# Hosts that a demo of fanout plays on this machine; they answer as long as the demo runs.",
        "# name port=<of its ssh server> addr=<at which the other hosts reach it> slots=<processes on it>",
    ]
    lines += [f"{host.name} port={host.port} addr={host.address} slots=1" for host in hosts]
    return "\n".join(lines) + "\n"


def ssh_config(hosts: tuple[Played, ...], *, user: str, identity: Path, known_hosts: Path) -> str:
    """For ``ssh -F``: each host's address and port, and for all of them one key and one list of host keys, no other."""
    lines = ["# For the played hosts only: ssh -F <this file> HOST COMMAND"]
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


def known_hosts(hosts: tuple[Played, ...]) -> str:
    """``[address]:port ssh-ed25519 AAAA…``, one line a host."""
    return "".join(f"[{host.address}]:{host.port} {host.public_key}\n" for host in hosts)
