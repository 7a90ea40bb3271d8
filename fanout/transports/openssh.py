"""The system's own ssh: for what paramiko cannot do (GSSAPI, FIDO keys, ``Match exec``, a ControlMaster that is open).

Dearer (one process a host), chosen with ``--transport openssh``; everything above is the same.
"""

from __future__ import annotations

from fanout.errors import Unreachable
from fanout.hosts import Host
from fanout.transports.base import Channel, Deadline
from fanout.transports.pipes import PipeChannel


class OpensshTransport:
    """One ``ssh`` process a host, without a terminal, a prompt or forwarding."""

    name = "openssh"

    def __init__(self, *, ssh_config: str = "", accept_new_host_keys: bool = False, user: str = "") -> None:
        self._ssh_config = ssh_config
        self._accept_new = accept_new_host_keys
        self._user = user

    def argv(self, host: Host, command: str, deadline: Deadline) -> list[str]:
        options = [
            "BatchMode=yes",
            f"ConnectTimeout={max(1, int(deadline.left))}",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=3",
            "ForwardAgent=no",
            "ClearAllForwardings=yes",
            f"StrictHostKeyChecking={'accept-new' if self._accept_new else 'yes'}",
        ]
        argv = ["ssh", "-T"]
        for option in options:
            argv += ["-o", option]
        if self._ssh_config:
            argv += ["-F", self._ssh_config]
        if host.hostname is not None:
            argv += ["-o", f"HostName={host.hostname}"]
        if host.port is not None:
            argv += ["-p", str(host.port)]
        user = host.user or self._user
        if user:
            argv += ["-l", user]
        return [*argv, "--", host.name, command]

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        try:
            channel = PipeChannel(self.argv(host, command, deadline))
        except FileNotFoundError:
            raise Unreachable("there is no `ssh` program on this machine", hint="install OpenSSH's client") from None
        deadline.guard(channel.close)
        return channel
