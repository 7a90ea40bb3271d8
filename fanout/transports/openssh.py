"""The system's own ssh: for what paramiko cannot do (GSSAPI, FIDO keys, ``Match exec``, a ControlMaster that is open).

Dearer (one process a host), chosen with ``--transport openssh``; everything above is the same.
"""

from __future__ import annotations

from dataclasses import replace

from fanout.errors import Unreachable
from fanout.hosts import Host
from fanout.transports.base import Channel, Deadline
from fanout.transports.pipes import PipeChannel
from fanout.transports.sshconfig import SshConfig


class OpensshTransport:
    """One ``ssh`` process a host, without a terminal, a prompt or forwarding."""

    name = "openssh"

    def __init__(self, config: SshConfig, *, accept_new_host_keys: bool = False) -> None:
        self._config = config
        self._accept_new = accept_new_host_keys

    def argv(self, host: Host, command: str, deadline: Deadline) -> list[str]:
        """Return the command line. What it must not lose stands first, because ssh keeps the first value of an option."""
        forced = (
            "BatchMode=yes",
            "ForwardAgent=no",
            "ClearAllForwardings=yes",
            "RemoteCommand=none",
            "ControlMaster=no",  # a master that is open is used; one of ours would keep our pipes after the end
        )
        wanted = (
            f"ConnectTimeout={max(1, int(deadline.left))}",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=3",
            f"StrictHostKeyChecking={'accept-new' if self._accept_new else 'yes'}",
        )
        question = self._config.question(host)
        argv = ["ssh", "-T", *(["-F", self._config.file] if self._config.file else [])]
        for option in (*forced, *question.options, *wanted):
            argv += ["-o", option]
        return [*argv, *replace(question, options=()).words(), command]

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        try:
            channel = PipeChannel(self.argv(host, command, deadline))
        except FileNotFoundError:
            raise Unreachable("there is no `ssh` program on this machine", hint="install OpenSSH's client") from None
        deadline.guard(channel.close)
        return channel
