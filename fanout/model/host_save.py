"""State of one host in a planned stop: which ranks handle the signal, which received it, and which have ended since."""

from __future__ import annotations

from dataclasses import replace

from fanout.model.actions import Save
from fanout.model.events import RankEnded, SaveHandlers
from fanout.model.frozen import frozen


@frozen
class HostSave:
    """The host's part in a planned stop. ``asked_at`` is when it was last asked for the ranks that handle the signal."""

    asked_at: float | None = None
    request: Save | None = None
    requested_at: float | None = None
    handlers: SaveHandlers | None = None  # the last report of the host
    ended: tuple[RankEnded, ...] = ()

    @property
    def signalled(self) -> tuple[int, ...]:
        """Return the ranks that received the signal."""
        return self.handlers.ranks if self.handlers is not None and self.handlers.sent else ()

    @property
    def has_ended(self) -> bool:
        """Return whether every rank of the host received the signal and has ended."""
        is_known = self.handlers is not None and self.handlers.sent and not self.handlers.others
        return is_known and len(self.ended) >= len(self.signalled)

    @property
    def lacks_handler(self) -> bool:
        """Return whether the host has reported that none of its ranks handles the signal."""
        return self.handlers is not None and not self.handlers.ranks

    def note_action(self, action: Save, at: float) -> HostSave:
        """Return the state after an action was sent to the host."""
        if not action.sends:
            return replace(self, asked_at=at)
        return replace(self, request=self.request or action, requested_at=self.requested_at or at)

    def apply_event(self, event: SaveHandlers | RankEnded) -> HostSave:
        """Return the state after a report of the host. A report that arrives again, after a reconnect, changes nothing."""
        if isinstance(event, SaveHandlers):
            return self if self.signalled else replace(self, handlers=event)
        known = any((each.rank, each.seconds) == (event.rank, event.seconds) for each in self.ended)
        return self if known else replace(self, ended=(*self.ended, event))
