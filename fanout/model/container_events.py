"""Events of hosts in containers: what the launcher could not remove, and what the machine itself reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fanout.model.event_base import HostEvent, Line


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLeft(HostEvent):
    """The launcher could not verify that ``container``, which it had created on the host, is removed."""

    container: Line


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineExamined(HostEvent):
    """After a failure, the own agent of a host in a container answered: ``value`` as for ``aftermath``, or ``error``."""

    value: Any
    error: str
