"""Events of a stop that a command requested. For a planned stop: its request, the ranks with the signal, and their ends."""

from __future__ import annotations

from fanout.model.event_base import AgentEvent, BaseEvent, Line, Rank, Seconds, SignalName
from fanout.model.frozen import frozen


@frozen
class SaveHandlers(AgentEvent):
    """The ranks of the host that handle the signal of a planned stop, and ``others``, which have no handler for it.

    ``sent``: ``ranks`` have received it just now.
    """

    signal: SignalName
    ranks: tuple[Rank, ...]
    others: tuple[Rank, ...]
    sent: bool

    def __post_init__(self) -> None:
        """Convert the lists of a message or a record to tuples."""
        for name in ("ranks", "others"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


@frozen
class RankEnded(AgentEvent):
    """A rank ended by itself, ``seconds`` after it received the signal of a planned stop."""

    rank: Rank
    seconds: Seconds


@frozen
class SaveRequested(BaseEvent):
    """A user requested a planned stop (``fanout stop --save``): ``signal`` now, the stop after ``seconds`` at the latest."""

    signal: SignalName
    seconds: Seconds
    by: Line


@frozen
class StopRequested(AgentEvent):
    """The host received a stop request from ``fanout stop`` on another machine. ``by`` is the user: ``ann@pc``."""

    by: Line
