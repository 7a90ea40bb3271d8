"""Commands for the user to type, with the host, user, port and ssh_config that fanout itself used. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import field

from fanout.model.engines import APPTAINER
from fanout.model.frozen import frozen

_PLAIN = re.compile(r"[\w@%+=:,./^{}-]+( [\w@%+=:,./^{}-]+)*")  # a shell passes these on unchanged

#: Programs that show or change the machine: its kernel, devices, network and services are not those of a container.
_OF_MACHINE = re.compile(
    r"(sudo |(dmesg|ethtool|ibstat|ip|iptables|nft|nvidia-smi|perfquery|reboot|systemctl|timedatectl|chronyc|uptime)\b)"
)


def join_login(login: str, command: str) -> str:
    """Return the command that runs ``command`` by the command of a login; "" is the shell of this machine."""
    return f"{login} {command if _PLAIN.fullmatch(command) else shlex.quote(command)}" if login else command


@frozen
class CommandBuilder:
    """Commands by which this user reaches each host. ``logins`` are ssh commands without the remote command (absent:
    ``ssh NAME``). ``here`` are hosts that are the launcher's own machine. ``source`` is HOSTS as the user gave it.
    ``containers`` are the commands that enter the container of a host: ``docker exec -i work``."""

    logins: Mapping[str, str] = field(default_factory=dict)
    here: frozenset[str] = frozenset()
    containers: Mapping[str, str] = field(default_factory=dict)
    ssh_config: str = ""
    ssh_option: tuple[str, ...] = ()
    source: str = ""

    def build_ssh_command(self, name: str, *options: str) -> str:
        """Return the login command of this host, for example ``ssh -F cfg -p 2222 ann@gpu01``."""
        login = self.logins.get(name) or f"ssh {shlex.quote(name)}"
        return " ".join(["ssh", *options, login.removeprefix("ssh ")])

    def build_remote_command(self, name: str, command: str) -> str:
        """Return the command that runs ``command`` in a shell of that host, or of its container.

        A command about the machine runs outside of the container.
        """
        enter = self.containers.get(name)
        if enter and enter.startswith(f"{APPTAINER.name} "):  # an image is read-only, and its user is that of the login
            if command.startswith("sudo apt "):
                return f"in the definition file of the image: {command.removeprefix('sudo ')}"
            enter = "" if "sudo " in command else enter
        if enter and command.startswith("sudo apt "):  # the container may lack sudo, and has its own packages
            enter, command = enter.replace(" exec ", " exec -u 0 ", 1), command.removeprefix("sudo ")
        if enter and not _OF_MACHINE.match(command):
            command = f"{enter} {command if _PLAIN.fullmatch(command) else 'sh -c ' + shlex.quote(command)}"
        return join_login("" if name in self.here else self.build_ssh_command(name), command)

    def build_copy_command(self, paths: Sequence[str], source: str, host: str, folder: str) -> str:
        """Return the command that copies files or directories below ``folder`` to a host; ``source`` "": this machine."""
        folder = shlex.quote(folder)
        pack = f"tar -C {folder} -c {shlex.join(paths)}"
        unpack = f"mkdir -p {folder} && tar -C {folder} -x"
        return (
            f"{self.build_remote_command(source, pack) if source else pack} | {self.build_remote_command(host, unpack)}"
        )

    def copy_file(self, path: str, source: str, host: str) -> str:
        """Return the command that copies one file to the same path on another host."""
        folder, _, file = path.rpartition("/")
        return self.build_copy_command([file], source, host, folder or ("/" if path.startswith("/") else "."))

    def copy_tree(self, path: str, source: str, host: str) -> str:
        """Return the command that copies a directory to the same path on another host, which may have one already."""
        return self.build_copy_command(["."], source, host, path)

    def copy_module(self, path: str, source: str, host: str) -> str:
        """Return the command that copies a package or a module's file to the same path on another host."""
        return self.copy_file(path.rstrip("/"), source, host)

    def build_fanout_command(self, verb: str, *words: str, hosts: bool = False) -> str:
        """Return a fanout command. With ``hosts``, add HOSTS as the user gave them and the ssh_config in use."""
        config = ["-F", self.ssh_config] if hosts and self.ssh_config else []
        config += [word for option in self.ssh_option if hosts for word in ("-o", option)]
        return shlex.join(["fanout", verb, *config, *words, *([self.source] if hosts and self.source else [])])
