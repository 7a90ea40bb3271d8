"""Events of the containers that fanout creates."""

from __future__ import annotations

from dataclasses import dataclass

from fanout.model.event_base import HostEvent, Line


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLeft(HostEvent):
    """The launcher could not verify that ``container``, which it had created on the host, is removed."""

    container: Line
