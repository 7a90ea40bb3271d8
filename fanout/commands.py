"""Commands for the user to type, with the host, user, port and ssh_config that fanout itself used. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_PLAIN = re.compile(r"[\w@%+=:,./^{}-]+( [\w@%+=:,./^{}-]+)*")  # a shell passes these on unchanged


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """Commands by which this user reaches each host. ``logins`` are ssh commands without the remote command (absent:
    ``ssh NAME``). ``here`` are hosts that are the launcher's own machine. ``source`` is HOSTS as the user gave it."""

    logins: Mapping[str, str] = field(default_factory=dict)
    here: frozenset[str] = frozenset()
    ssh_config: str = ""
    ssh_option: tuple[str, ...] = ()
    source: str = ""

    def ssh(self, name: str, *options: str) -> str:
        """Return the login command of this host, for example ``ssh -F cfg -p 2222 ann@gpu01``."""
        login = self.logins.get(name) or f"ssh {shlex.quote(name)}"
        return " ".join(["ssh", *options, login.removeprefix("ssh ")])

    def on(self, name: str, command: str) -> str:
        """Return the command that runs ``command`` in a shell of that host."""
        if name in self.here:
            return command
        return f"{self.ssh(name)} {command if _PLAIN.fullmatch(command) else shlex.quote(command)}"

    def copy(self, paths: Sequence[str], source: str, host: str, folder: str) -> str:
        """Return the command that copies files or directories below ``folder`` to a host; ``source`` "": this machine."""
        folder = shlex.quote(folder)
        pack = f"tar -C {folder} -c {shlex.join(paths)}"
        unpack = f"mkdir -p {folder} && tar -C {folder} -x"
        return f"{self.on(source, pack) if source else pack} | {self.on(host, unpack)}"

    def copy_file(self, path: str, source: str, host: str) -> str:
        """Return the command that copies one file to the same path on another host."""
        folder, _, file = path.rpartition("/")
        return self.copy([file], source, host, folder or ("/" if path.startswith("/") else "."))

    def copy_tree(self, path: str, source: str, host: str) -> str:
        """Return the command that copies a directory to the same path on another host, which may have one already."""
        return self.copy(["."], source, host, path)

    def copy_module(self, path: str, source: str, host: str) -> str:
        """Return the command that copies a package or a module's file to the same path on another host."""
        return self.copy_file(path.rstrip("/"), source, host)

    def fanout(self, verb: str, *words: str, hosts: bool = False) -> str:
        """Return a fanout command. With ``hosts``, add HOSTS as the user gave them and the ssh_config in use."""
        config = ["-F", self.ssh_config] if hosts and self.ssh_config else []
        config += [word for option in self.ssh_option if hosts for word in ("-o", option)]
        return shlex.join(["fanout", verb, *config, *words, *([self.source] if hosts and self.source else [])])
