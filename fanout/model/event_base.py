"""Bases of all events, and the types of their fields, whose annotations bound messages and records."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

from fanout.model.frozen import frozen
from fanout.model.option import MAX_SECONDS
from fanout.model.schema import Integer, Number, Text

Pid: TypeAlias = Annotated[int, Integer(0, 1 << 32)]
Stream: TypeAlias = Annotated[int, Integer(0, 65_535)]  # a frame of log bytes has a stream number of two bytes
Offset: TypeAlias = Annotated[int, Integer(0, 1 << 50)]  # no supported file system accepts a larger one
ExitCode: TypeAlias = Annotated[int, Integer(0, 255)]
Signal: TypeAlias = Annotated[int, Integer(1, 64)]
SignalName: TypeAlias = Annotated[str, Text(16)]
NO_RANK = -1  # the rank of a process that has none in its environment
Rank: TypeAlias = Annotated[int, Integer(NO_RANK, 1 << 24)]
Seconds: TypeAlias = Annotated[float, Number(0, MAX_SECONDS)]
Line: TypeAlias = Annotated[str, Text(4096)]
Message: TypeAlias = Annotated[str, Text(1 << 16)]


@frozen
class BaseEvent:
    """Base of all events; ``at`` is when the event reached the launcher."""

    at: float


@frozen
class HostEvent(BaseEvent):
    """Base of all events of one host; ``host`` is its name in the hostfile."""

    host: str


@frozen
class AgentEvent(HostEvent):
    """Base of the events that the agent sends as messages: the type of the message is the name of the event."""


def get_type_name(kind: type[Any]) -> str:
    """Return the name of an event or action in messages and records: ``StreamOpened`` -> ``stream_opened``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()
