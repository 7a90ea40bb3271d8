"""Which transport a host gets: ssh, unless it is the machine that we are on.

People launch from host 0, and then need no ssh server for it. An entry means this machine if its address is one of
ours and nothing in it (another port, another user, a jump) says that ssh is meant all the same.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from fanout.hosts import Host
from fanout.settings import Settings
from fanout.transports.base import Transport
from fanout.transports.local import LocalTransport
from fanout.transports.openssh import OpensshTransport

if TYPE_CHECKING:
    from fanout.transports.ssh import SshTransport

HERE = ("localhost", "127.0.0.1", "::1")


class Picker:
    """Chooses once per host; fabric is imported when the first host needs it."""

    def __init__(self, settings: Settings, *, user: str, agent: bool) -> None:
        self._settings = settings
        self._user = user
        self._agent = agent
        self._lock = threading.Lock()
        self._local = LocalTransport()

    @cached_property
    def ssh(self) -> SshTransport:
        from fanout.transports.ssh import SshTransport

        return SshTransport(
            ssh_config=self._settings.ssh_config,
            accept_new_host_keys=self._settings.accept_new_host_keys,
            user=self._settings.user,
            agent=self._agent,
        )

    def __call__(self, host: Host) -> Transport:
        kind = self._settings.transport
        if kind == "local" or (kind == "auto" and self.is_here(host)):
            return self._local
        if kind == "openssh":
            return OpensshTransport(
                ssh_config=self._settings.ssh_config,
                accept_new_host_keys=self._settings.accept_new_host_keys,
                user=self._settings.user,
            )
        with self._lock:
            return self.ssh

    def is_here(self, host: Host) -> bool:
        """Is this entry the launcher's own machine?"""
        if host.port is not None or host.user not in (None, self._user) or self._settings.user not in ("", self._user):
            return False
        if host.hostname is None and host.name in HERE:
            return True
        with self._lock:
            ssh = self.ssh
        address, user, port = ssh.resolve(host)
        return port == 22 and user == self._user and not ssh.jumps(host) and is_own(address)

    def address(self, host: Host) -> str:
        """What ssh_config makes of the host's name."""
        with self._lock:
            return self.ssh.resolve(host)[0]


def is_own(name: str, lookup: Callable[[str], list[str]] | None = None) -> bool:
    """Does ``name`` stand for an address of this machine?"""
    return any(_ours(address) for address in (lookup or addresses)(name))


def addresses(name: str) -> list[str]:
    """The addresses of a name, [] if it has none."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _ours(address: str) -> bool:
    """A socket can be bound to an address if and only if it is on one of our interfaces."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
