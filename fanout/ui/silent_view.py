"""View of a run that a program follows: it shows nothing. The record has all lines and messages."""

from __future__ import annotations

from fanout.model.events import Event
from fanout.model.state import RunState
from fanout.model.subscriber import TextView


class SilentView(TextView):
    """View without output."""

    broken = False

    def __call__(self, event: Event, state: RunState) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Close nothing."""
