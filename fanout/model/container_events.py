"""Events of hosts in containers: what the launcher could not remove, and what the machine itself reports."""

from __future__ import annotations

from typing import Any

from fanout.model.event_base import HostEvent, Line
from fanout.model.frozen import frozen


@frozen
class ContainerLeft(HostEvent):
    """The launcher could not verify that ``container``, which it had created on the host, is removed."""

    container: Line


@frozen
class MachineExamined(HostEvent):
    """After a failure, the own agent of a host in a container answered: ``value`` as for ``aftermath``, or ``error``."""

    value: Any
    error: str
