"""Calls of ssh within the run: what such a call starts on another host is outside the keeper's tree.

The host's own processes are verified at the end. Those that train.sh started on another host by ssh are not.
"""

from __future__ import annotations

import os
import time

from . import background, processes

PAUSE_SECONDS = 1.0
#: Options of ssh that take a value (ssh(1)).
_WITH_VALUE = "BbcDEeFIiJLlmOoPpQRSWw"
_CLIENTS = (b"ssh", b"slogin", b"autossh")
#: Remote commands that end with their ssh: git, rsync, scp, sftp.
_TRANSFERS = (b"git-upload-pack", b"git-receive-pack", b"git-lfs-", b"rsync --server", b"scp -", b"sftp")


class SshWatch:
    """The hosts that processes of the run called by ssh."""

    def __init__(self) -> None:
        self._next = 0.0
        self.hosts: list = []

    def scan(self, keeper: int, *, now: bool = False) -> None:
        """Look for ssh clients below the keeper, if a scan is due or with ``now``."""
        if time.monotonic() < self._next and not now:
            return
        self._next = time.monotonic() + PAUSE_SECONDS
        for pid in processes.descendants(keeper):
            host = find_ssh_host(background.read_words(pid))
            if host and host not in self.hosts:
                self.hosts.append(host)


def find_ssh_host(words: list) -> str:
    """Return the host on which this command line of ssh runs a command or a shell; "" for any other command line."""
    if not words or os.path.basename(words[0]) not in _CLIENTS:
        return ""
    flags, rest = "", list(words[1:])
    while rest and rest[0].startswith(b"-") and len(rest[0]) > 1:
        word = rest.pop(0).decode("utf-8", "replace")[1:]
        for at, letter in enumerate(word):
            flags += letter
            if letter in _WITH_VALUE:
                if at == len(word) - 1 and rest:
                    rest.pop(0)
                break
    remote = b" ".join(rest[1:]).strip()
    if not rest or "N" in flags or "W" in flags or "O" in flags or remote.startswith(_TRANSFERS):
        return ""
    host = rest[0].decode("utf-8", "replace")
    host = host[6:] if host.startswith("ssh://") else host
    return str(host.rpartition("@")[2][:200])
