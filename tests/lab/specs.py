"""What a lab machine is to be, as values: the options of a host, and the files and settings that follow from them."""

from __future__ import annotations

import functools
import ipaddress
import subprocess
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.ns import find_tool

USER, UID = "lab", 47001
PRIVATE = (
    ("/tmp", 0o1777),
    ("/var/tmp", 0o1777),
    ("/dev/shm", 0o1777),
    ("/run", 0o755),
    ("/home", 0o755),
    ("/root", 0o711),  # passable, because a Python of the tests may live below it
)
_NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A directory or file of this machine, made visible inside, at ``target`` or else at its own path."""

    source: str
    target: str = ""
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec:
    """How a host differs from a plain one.

    ``aliases`` are more names, each with an address of its own, for the same sshd. ``sshd`` and ``etc_hosts`` are lines
    that come before ours, so that they win; ``dotfiles`` go into the home of root and of the user; ``without`` are
    patterns of programs that are not to be found there (``python3*``); ``client`` gives the host the key that opens all.
    """

    name: str
    aliases: tuple[str, ...] = ()
    port: int = 22
    shell: str = "/bin/bash"
    sshd: tuple[str, ...] = ()
    etc_hosts: tuple[str, ...] = ()
    dotfiles: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    tmp_mb: int = 512
    client: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    private: str
    public: str


@functools.cache
def make_key(label: str) -> Key:
    """Return the one key pair of this label and process: making keys is the slowest part of a lab."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "key")
        subprocess.run([find_tool("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", label, "-f", path], check=True)
        return Key(private=path.read_text(), public=path.with_suffix(".pub").read_text())


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A name on the network of the lab."""

    name: str
    v4: str
    v6: str
    port: int

    def known_host(self, public_key: str) -> str:
        places = (self.name, self.v4, self.v6)
        shown = places if self.port == 22 else [f"[{place}]:{self.port}" for place in places]
        return f"{','.join(shown)} {' '.join(public_key.split()[:2])}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Specification of the whole lab: the address of each machine, and the files that every machine gets."""

    launcher: HostSpec
    hosts: tuple[HostSpec, ...]
    addresses: Mapping[str, Address]
    prefix: tuple[int, int]
    binds: tuple[Bind, ...]

    def list_addresses(self, spec: HostSpec) -> list[Address]:
        return [self.addresses[name] for name in spec.names]

    def etc_hosts(self, spec: HostSpec) -> str:
        own = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"
        table = "".join(f"{a.v4} {a.name}\n{a.v6} {a.name}\n" for a in self.addresses.values())
        return "".join(f"{line}\n" for line in spec.etc_hosts) + own + table

    def known_hosts(self) -> str:
        keys = {a.name: make_key(f"host {spec.name}").public for spec in self.hosts for a in self.list_addresses(spec)}
        return "".join(self.addresses[name].known_host(public) for name, public in keys.items())


def lay_out(launcher: HostSpec, hosts: Sequence[HostSpec], subnet: str, subnet6: str, binds: Sequence[Bind]) -> Plan:
    """Hosts take the first addresses of the networks, the launcher the last of the one and ``::ffff`` of the other."""
    v4, v6 = ipaddress.IPv4Network(subnet), ipaddress.IPv6Network(subnet6)
    named = [(name, spec.port) for spec in hosts for name in spec.names]
    assert len({name for name, _ in named} | {launcher.name}) == len(named) + 1, "two machines of one name"
    assert len(named) + 3 <= v4.num_addresses, f"{subnet} is too small for {len(named)} names"
    table = {
        name: Address(name=name, v4=str(v4[number]), v6=str(v6[number]), port=port)
        for number, (name, port) in enumerate(named, 1)
    }
    table[launcher.name] = Address(name=launcher.name, v4=str(v4[-2]), v6=str(v6[0xFFFF]), port=22)
    prefix = (v4.prefixlen, v6.prefixlen)
    return Plan(launcher=launcher, hosts=tuple(hosts), addresses=table, prefix=prefix, binds=tuple(binds))


def sshd_config(spec: HostSpec) -> str:
    lines = (
        "LogLevel VERBOSE",
        f"Port {spec.port}",
        "ListenAddress 0.0.0.0",
        "ListenAddress ::",
        *spec.sshd,
        "HostKey /run/lab/host_key",
        "UsePAM no",
        "PidFile none",
        "StrictModes no",
        "UseDNS no",
        "PermitRootLogin prohibit-password",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PrintMotd no",
        "PrintLastLog no",
        "AcceptEnv LANG LC_*",
        "Subsystem sftp internal-sftp",
    )
    return "\n".join(lines) + "\n"


def _build_passwd(shell: str) -> str:
    ours = {"root": f"root:x:0:0:root:/root:{shell}", USER: f"{USER}:x:{UID}:{UID}::/home/{USER}:{shell}"}
    others = [line for line in Path("/etc/passwd").read_text().splitlines() if line.split(":")[0] not in ours]
    return "\n".join([*ours.values(), *others]) + "\n"


def _build_etc(plan: Plan, spec: HostSpec) -> dict[str, str]:
    return {
        "/etc/hosts": plan.etc_hosts(spec),
        "/etc/hostname": f"{spec.name}\n",
        "/etc/machine-id": f"{uuid.uuid5(uuid.NAMESPACE_DNS, spec.name).hex}\n",
        "/etc/resolv.conf": "",
        "/etc/nsswitch.conf": _NSSWITCH,
        "/etc/passwd": _build_passwd(spec.shell),
        "/etc/shadow": f"root:*:19000::::::\n{USER}:*:19000::::::\nsshd:*:19000::::::\n",
        "/etc/group": Path("/etc/group").read_text() + f"{USER}:x:{UID}:\n",
        "/proc/sys/kernel/random/boot_id": f"{uuid.uuid4()}\n",
    }


def _build_home(plan: Plan, spec: HostSpec) -> dict[str, tuple[str, int]]:
    opener = make_key("user")
    files = {".ssh/authorized_keys": (opener.public, 0o600)}
    if spec.client:
        files[".ssh/id_ed25519"] = (opener.private, 0o600)
        files[".ssh/id_ed25519.pub"] = (opener.public, 0o644)
        files[".ssh/known_hosts"] = (plan.known_hosts(), 0o600)
    return files | {name: (text, 0o644) for name, text in spec.dotfiles.items()}


def _build_network(plan: Plan, spec: HostSpec, device: str) -> str:
    lines = ["link set lo up"]
    for address in plan.list_addresses(spec):
        lines.append(f"addr add {address.v4}/{plan.prefix[0]} dev {device}")
        lines.append(f"addr add {address.v6}/{plan.prefix[1]} dev {device} nodad")
    return "\n".join([*lines, f"link set {device} up", ""])


def boot_order(plan: Plan, spec: HostSpec, *, device: str, before: str = "", sshd: bool) -> dict[str, Any]:
    """Return the specification for the first process of a machine as JSON; each boot has its own boot id."""
    files = _build_home(plan, spec)
    return {
        "hostname": spec.name,
        "private": PRIVATE,
        "tmp_mb": spec.tmp_mb,
        "binds": [(bind.source, bind.target or bind.source, bind.writable) for bind in plan.binds],
        "etc": _build_etc(plan, spec),
        "without": list(spec.without),
        "homes": [("/root", 0, files), (f"/home/{USER}", UID, files)],
        "network": before + _build_network(plan, spec, device),
        "host_key": make_key(f"host {spec.name}").private,
        "sshd": sshd_config(spec) if sshd else None,
        "sshd_path": find_tool("sshd"),
    }
