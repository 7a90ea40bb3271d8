"""The launcher's own machine: the same command through sh, with no ssh server in between."""

from __future__ import annotations

from fanout.errors import Unreachable
from fanout.hosts import Host
from fanout.transports.base import Channel, Deadline
from fanout.transports.pipes import PipeChannel


class LocalTransport:
    """Starts the command as a child of the launcher; the keeper leaves that family at once."""

    name = "local"

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        try:
            channel = PipeChannel(["/bin/sh", "-c", command], one_pipe=True)
        except OSError as error:
            raise Unreachable(f"cannot start a process here: {error.strerror}") from error
        deadline.guard(channel.close)
        return channel
