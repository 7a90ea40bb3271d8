"""Plain exec: run a command without the agent and emit the same events as a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from fanout.model.events import MAIN_STREAM, Chunk, CleanedUp, Event, Exited, Prepared, Released, Started
from fanout.model.hosts import Host
from fanout.remote.transports.base import Channel

READ_SECONDS = 5.0  # timeout of one read: after it, ``handle`` decides again whether events are still wanted


def follow_command(host: Host, channel: Channel, clock: Callable[[], float], handle: Callable[[Event], bool]) -> None:
    """Read until the command ends. ``handle`` receives each event and returns True if no more events are wanted."""
    name = host.name
    handle(Prepared(at=clock(), host=name, pid=0))
    if handle(Started(at=clock(), host=name, pid=0)):
        return
    offset = 0
    why = ""
    try:
        while (data := channel.read(READ_SECONDS)) != b"":
            if data is not None and handle(Chunk(at=clock(), host=name, stream=MAIN_STREAM, offset=offset, data=data)):
                return
            offset += len(data or b"")
    except OSError as error:
        why = str(error) or type(error).__name__
    code = channel.exit_status() if not why else None
    if code is not None and not 0 <= code <= 255:
        code, why = None, f"the transport reported exit status {code}, which no command can have"
    ended = code is not None or (not why and channel.has_reported_end())
    if not why and code is None:
        why = "a signal ended the command" if ended else "the connection was lost, or a signal ended the command"
    handle(Exited(at=clock(), host=name, code=code, signal=None, reason="ended" if ended else "unknown", why=why))
    handle(CleanedUp(at=clock(), host=name, killed=0))
    handle(Released(at=clock(), host=name))
    channel.close()


def end_command(host: Host, channel: Channel) -> None:
    """End the command; if the connection broke, its reader reports that.

    A signal would end the program that enters a container, and not the command inside. The end of stdin ends both.
    """
    with contextlib.suppress(OSError):
        if host.container:
            channel.close_input()
        else:
            channel.end_command()
