"""Convert an ssh command such as ``ssh -p 40123 root@host`` into a hostfile entry. No I/O."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

_TAKES_VALUE = set("BbcDEeFIiJLlmOoPpQRSWw")
_URL = re.compile(r"ssh://(?:([^@/]+)@)?([^:/@]+)(?::(\d+))?/?")
LEAST_PORT_BY_COLON = 1024
_WRAPPERS = ("sshpass", "autossh", "nohup", "sudo", "exec")


class SshCommand(NamedTuple):
    """Destination of an ssh command, and its options for ssh_config."""

    user: str
    host: str
    port: str
    options: tuple[str, ...]

    @property
    def host_spec(self) -> str:
        where = f"{self.user}@{self.host}" if self.user else self.host
        if not self.port:
            return where
        plain = self.port == "22" or int(self.port) >= LEAST_PORT_BY_COLON
        return f"{where}:{self.port}" if plain else f"{where} port={self.port}"


def is_ssh_command(text: str) -> bool:
    """Return whether the line calls ssh, directly or through a wrapper; a host may also be named ssh."""
    words = text.split()
    if len(words) < 2 or words[0].rpartition("/")[2] not in ("ssh", *_WRAPPERS[:2]):
        return False
    return words[1].startswith("-") or "=" not in words[1]


def parse_ssh_command(text: str) -> SshCommand | None:
    """Parse the destination of an ssh command; None if there is no valid one."""
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    program = next((at for at, word in enumerate(words) if word.rpartition("/")[2] in ("ssh", "autossh")), None)
    if program is None:
        return None
    user = host = port = ""
    options: list[str] = []
    at = program + 1
    while at < len(words):
        word = words[at]
        at += 1
        if not word.startswith("-") or word == "-":
            if host:
                break  # the command that ssh runs there
            host = word
            continue
        for place, letter in enumerate(word[1:], 1):
            if letter not in _TAKES_VALUE:
                continue
            value = word[place + 1 :] or (words[at] if at < len(words) else "")
            at += 0 if word[place + 1 :] else 1
            name, _, setting = value.replace(" ", "=", 1).partition("=") if letter == "o" else (letter, "", value)
            if name.lower() in ("p", "port") and letter != "P":
                port = setting
            elif name.lower() in ("l", "user") and letter != "L":
                user = setting
            elif letter in "iJ" or name.lower() in ("identityfile", "proxyjump"):
                options.append(f"{'IdentityFile' if name.lower() in ('i', 'identityfile') else 'ProxyJump'} {setting}")
            break
    return _build_command(user, host, port, options)


def _build_command(user: str, host: str, port: str, options: list[str]) -> SshCommand | None:
    url = _URL.fullmatch(host)
    if url:
        user, host, port = url[1] or user, url[2], url[3] or port
    before, at, after = host.rpartition("@")
    user, host = (before, after) if at else (user, host)
    if not re.fullmatch(r"[A-Za-z0-9_.:\[\]%-]+", host) or host.startswith("-") or (port and not port.isdigit()):
        return None
    if not re.fullmatch(r"[\w.@\\$-]*", user) or len(port) > 5:
        return None
    return SshCommand(user, host, port, tuple(option for option in options if option.isprintable()))


def advise_entry(text: str) -> str:
    """Return advice with the hostfile entry for the command."""
    command = parse_ssh_command(text)
    if command is None:
        return "write user@host:port, one host per line"
    if not command.options:
        return f"write: {command.host_spec}"
    return f"write: {command.host_spec}    and in ~/.ssh/config for {command.host}: {', '.join(command.options)}"
