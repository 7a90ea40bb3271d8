"""Events of the connection to one host: one ssh channel, or a local pipe, to its agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fanout.model.event_base import HostEvent, Line
from fanout.model.frozen import frozen


@frozen
class Connecting(HostEvent):
    """A connection attempt begins; ``attempt`` counts from 1."""

    attempt: int


@frozen
class Connected(HostEvent):
    """The agent answered. ``hello`` is its first message: python, hostname, host_id, boot_id, engine, pid, uid, container."""

    attempt: int
    took: float
    hello: Mapping[str, Any]


@frozen
class LoginOutput(HostEvent):
    """Bytes that the host's login printed before the agent started (motd, rc files). They are shown, never parsed."""

    data: bytes


@frozen
class ConnectFailed(HostEvent):
    """No connection, and no further attempt: ``kind`` is the name of the TransportError."""

    kind: str
    message: str
    hint: str


@frozen
class Disconnected(HostEvent):
    """An established connection broke; the run on the host continues under its lease.

    ``silent_for`` is how many seconds the host had been silent if that is why the launcher closed it, else 0. The next
    launcher reports ``launcher_died`` for the connections of the one before.
    """

    why: str
    silent_for: float = 0.0
    launcher_died: bool = False


@frozen
class ReconnectFailed(HostEvent):
    """The host accepts connections during a run, but no agent or no login there: ``why`` differs from the last one.

    The launcher continues to try. An unreachable host sends no such event.
    """

    why: Line
    hint: Line = ""
