"""Local transport: run the command on the launcher's own machine through sh, without ssh."""

from __future__ import annotations

import os

from fanout.model.errors import Unreachable
from fanout.model.hosts import Host
from fanout.remote.transports.base import Channel, Deadline
from fanout.remote.transports.subprocess_channel import PipeChannel


class LocalTransport:
    """Start the command as a child of the launcher. The keeper detaches itself at once."""

    name = "local"
    open_files = 3  # pipes to the process

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        try:
            channel = PipeChannel(["/bin/sh", "-c", command], one_pipe=not host.container, cwd=_start_directory())
        except OSError as error:
            raise Unreachable(f"cannot start a process here: {error.strerror}") from error
        deadline.close_on_expiry(channel.close)
        return channel


def _start_directory() -> str | None:
    """Return None for the launcher's directory. If that was deleted, return the home directory, as for a login."""
    try:
        os.getcwd()
        return None
    except OSError:
        home = os.path.expanduser("~")
        return home if os.path.isdir(home) else "/"
