"""Facts about the live view itself: what its log shows, the position of a replay, and the helpers that it calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fanout.model.frozen import frozen


@frozen
class ReplayPosition:
    """Position of a replay and length of the run, in seconds. ``speed`` is a factor, infinite for ``max``."""

    at: float
    total: float
    speed: float = 1.0
    paused: bool = False


class ReplayControls(Protocol):
    """What the keys of a replay change. A change takes effect before the next event."""

    @property
    def position(self) -> ReplayPosition: ...

    def toggle_pause(self) -> None: ...

    def seek_by(self, seconds: float) -> None: ...

    def seek_to_event(self, direction: int) -> str: ...

    def seek_to_start(self) -> None: ...

    def seek_to_end(self) -> None: ...

    def change_speed(self, faster: bool) -> None: ...


class StackSource(Protocol):
    """Source of the current stacks of all ranks. ``lines`` is None while no answer has arrived."""

    def request_stacks(self) -> None: ...

    @property
    def lines(self) -> Sequence[str] | None: ...
