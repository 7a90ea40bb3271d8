"""Transport selection: ssh, or local if the host is the launcher's own machine.

Users often launch from host 0, which then needs no ssh server. A host is this machine if its address is one of this
machine's addresses, and its entry has no other port, no other user and no jump host.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from fanout.model.hosts import Host
from fanout.model.settings import Settings
from fanout.remote.transports.auto import AutoTransport, find_program_only_option, note_switch
from fanout.remote.transports.base import Transport
from fanout.remote.transports.local import LocalTransport
from fanout.remote.transports.notices import Notices
from fanout.remote.transports.openssh import OpensshTransport
from fanout.remote.transports.ssh_config import SshConfig

if TYPE_CHECKING:
    from fanout.remote.transports.builtin_ssh import SshTransport

HERE = ("localhost", "127.0.0.1", "::1")


class TransportSelector:
    """Select the transport of each host. fabric is imported when the first host needs it."""

    def __init__(self, settings: Settings, *, user: str, agent: bool) -> None:
        self._settings = settings
        self._user = user
        self._agent = agent
        self._lock = threading.Lock()
        self._local = LocalTransport()
        self.config = SshConfig(file=settings.ssh_config, options=settings.ssh_option, user=settings.user)
        self.notices = Notices()
        accept = settings.accept_new_host_keys
        self._openssh = OpensshTransport(self.config, accept_new_host_keys=accept, notices=self.notices)
        self._auto = AutoTransport(self.config, self._builtin_transport, self._openssh, self.notices)

    @cached_property
    def _ssh(self) -> SshTransport:
        from fanout.remote.transports.builtin_ssh import SshTransport

        accept = self._settings.accept_new_host_keys
        return SshTransport(self.config, accept_new_host_keys=accept, agent=self._agent, notices=self.notices)

    def __call__(self, host: Host) -> Transport:
        kind = self._settings.transport
        if kind == "local" or (kind == "auto" and self.is_here(host)):
            return self._local
        if kind == "openssh":
            return self._openssh
        if kind == "ssh":
            return self._builtin_transport()
        reason = find_program_only_option(self.config.connect_path(host))
        if reason:
            note_switch(host, reason, self.notices)
        return self._openssh if reason else self._auto

    @property
    def open_files(self) -> int:
        """Return how many files of this process a connection keeps open, unless its host is switched."""
        chosen: Mapping[str, Transport] = {"openssh": self._openssh, "local": self._local}
        return chosen.get(self._settings.transport, self._auto).open_files

    def _builtin_transport(self) -> SshTransport:
        with self._lock:
            return self._ssh

    def check_config(self, hosts: Sequence[Host]) -> None:
        """Read the configuration for every host that needs it. Raises UsageError before any host is touched.

        A jump loop or a missing variable may concern a single host. ssh is asked once for each kind of host, so this
        costs little where hosts differ only in names and addresses.
        """
        if self._settings.transport == "local":
            return
        here = self._is_plainly_here if self._settings.transport == "auto" else lambda _: False
        asked = [host for host in hosts if not here(host)]
        if asked:
            self.config.start_query(asked[0])
            if len(hosts) > 1 and self._settings.transport != "openssh":
                _ = self._ssh  # import fabric, which takes longer, while `ssh -G` reads its files
            self.config.check(asked)

    def is_here(self, host: Host) -> bool:
        """Return whether this entry is the launcher's own machine. Raises Unreachable if ssh refuses its configuration."""
        if self._names_another_login(host):
            return False
        if self._is_plainly_here(host):
            return True
        way = self.config.connect_path(host)
        options = way[-1]
        direct = len(way) == 1 and not options.proxy_command
        return direct and options.port == 22 and options.user == self._user and is_own_address(options.hostname)

    def _names_another_login(self, host: Host) -> bool:
        others = (None, "", self._user)
        return host.port is not None or host.user not in others or self._settings.user not in others

    def _is_plainly_here(self, host: Host) -> bool:
        """Return whether the entry names the launcher's machine independently of the ssh configuration."""
        return host.hostname is None and host.name in HERE and not self._names_another_login(host)

    def resolve_address(self, host: Host) -> str:
        """Return the address that ssh connects to. Raises UsageError if ssh refuses the configuration."""
        return self.config.resolve_host(host).hostname


def is_own_address(name: str, lookup: Callable[[str], list[str]] | None = None) -> bool:
    """Return whether ``name`` resolves to an address of this machine."""
    return any(_is_local_address(address) for address in (lookup or resolve_addresses)(name))


def resolve_addresses(name: str) -> list[str]:
    """Return the addresses of a name, [] if it has none."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _is_local_address(address: str) -> bool:
    """Return whether an interface of this machine has the address: then the kernel uses it as the source to reach it.

    A connect of a datagram socket sends nothing. A successful bind would prove nothing, because with
    ``net.ipv4.ip_nonlocal_bind`` every address can be bound.
    """
    plain = address.partition("%")[0]
    try:
        if ipaddress.ip_address(plain).is_loopback:
            return True
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0]).partition("%")[0] == plain
    except (OSError, ValueError):
        return False
