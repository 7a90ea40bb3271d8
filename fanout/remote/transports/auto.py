"""Automatic transport: the built-in ssh, or the ``ssh`` program if a host needs what the built-in cannot do.

A host is switched before its first login if its configuration requires the program. It is switched after a refused login
if the program has one more method: an open ControlMaster, GSSAPI, a FIDO key. Each switch is printed once with its reason.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterable

from fanout.model.errors import AuthRefused, TransportError, Unreachable
from fanout.model.hosts import Host
from fanout.remote.transports.base import Channel, Deadline, Transport
from fanout.remote.transports.identity_keys import key_type_of, read_public_key
from fanout.remote.transports.notices import Notices
from fanout.remote.transports.ssh_config import SshConfig
from fanout.remote.transports.ssh_options import SshOptions

#: Options that only the program supports, unless they have one of these values.
PROGRAM_ONLY = {
    "knownhostscommand": ("", "none"),
    "pkcs11provider": ("", "none"),
    "verifyhostkeydns": ("", "no", "false", "ask"),
}
#: Authentication methods that only the program has, by their name in the protocol, with the option that allows each.
PROGRAM_METHODS = {"gssapi-with-mic": "gssapiauthentication", "hostbased": "hostbasedauthentication"}


class AutoTransport:
    """The transport that chooses for each host. Safe to use from many threads at once."""

    name = "ssh"  # while no host is switched
    open_files = 3

    def __init__(
        self, config: SshConfig, builtin: Callable[[], Transport], program: Transport, notices: Notices
    ) -> None:
        self._config = config
        self._builtin = builtin
        self._program = program
        self._notices = notices
        self._lock = threading.Lock()
        self._switched: set[str] = set()

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        """Log in and start the command. Raises TransportError; if both ways fail, that of the built-in ssh."""
        with self._lock:
            switched = host.name in self._switched
        if switched:
            return self._program.open(host, command, deadline)
        try:
            return self._builtin().open(host, command, deadline)
        except TransportError as error:
            reason = find_program_login(error, self._config.connect_path(host))
            if not reason or deadline.has_expired:
                raise
            try:
                channel = self._program.open(host, command, deadline)
            except TransportError:
                raise error from None
            self._switch_host(host, reason)
            return channel

    def _switch_host(self, host: Host, reason: str) -> None:
        with self._lock:
            self._switched.add(host.name)
        note_switch(host, reason, self._notices)


def note_switch(host: Host, reason: str, notices: Notices) -> None:
    notices.add_notice(host.name, f"logs in with the ssh program, because {reason}")


def find_program_only_option(way: Iterable[SshOptions]) -> str:
    """Return the option of the configuration that the built-in ssh does not support, "" if it supports all."""
    for options in way:
        for keyword, harmless in PROGRAM_ONLY.items():
            if options.first_value(keyword).lower() not in harmless:
                return f"its configuration has {keyword} {options.first_value(keyword)}"
    return ""


def find_program_login(error: TransportError, way: Iterable[SshOptions]) -> str:
    """Return the method that the program can try after the built-in ssh failed with ``error``, "" if none."""
    if isinstance(error, AuthRefused):
        for options in way:
            if _is_socket(options.control_path):
                return f"it shares the open connection of {options.control_path}"
            for method, keyword in PROGRAM_METHODS.items():
                if method in error.methods and options.is_on(keyword):
                    return f"the host accepts {method}"
            for path in options.identity_files:
                blob = read_public_key(f"{path}.pub")
                if blob and key_type_of(blob).startswith("sk-"):
                    return f"{path} is a key of a FIDO device"
    if isinstance(error, Unreachable) and type(error.__cause__).__name__ == "IncompatiblePeer":
        return "the built-in ssh has no algorithm in common with the host"
    return ""


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False
