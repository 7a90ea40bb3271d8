"""Waiting line of ``fanout exec``: in a terminal, show which hosts have not answered yet."""

from __future__ import annotations

from typing import TextIO

from fanout.model.events import ConnectFailed, Disconnected, Event, HostLost, Refused
from fanout.model.hosts import fold_names
from fanout.model.state import RunState
from fanout.ui.replaced_line import ReplacedLine

SHOWN_AFTER = 1.0  # seconds: most commands have ended by then


class WaitingLine:
    """Subscriber that writes one line to stderr and replaces it; in a pipe it writes nothing.

    It precedes the view among the subscribers, so that the line is cleared before the view prints a message.
    """

    broken = False

    def __init__(self, stderr: TextIO, columns: int, *, shown: bool = True) -> None:
        self._line = ReplacedLine(stderr, columns)
        self._shown = shown

    def __call__(self, event: Event, state: RunState) -> None:
        if isinstance(event, (ConnectFailed, Refused, HostLost, Disconnected)):
            self.clear()
        elif self._shown and self._line.is_on and state.now - state.began_at >= SHOWN_AFTER:
            text = describe_waiting(state)
            if text:
                self._line.show(text)

    def clear(self) -> None:
        """Remove the line."""
        self._line.clear()


def describe_waiting(state: RunState) -> str:
    """Return ``2/4 hosts have ended, 14 s; waiting for gpu[03-04]``; "" if no host is waited for."""
    waiting = [host.name for host in state.all_hosts if host.exit is None and not host.phase.is_final]
    if not waiting:
        return ""
    count, age = len(state.all_hosts), f"{state.now - state.began_at:.0f} s"
    stopping = "stopping: " if state.interrupts else ""
    return f"{stopping}{count - len(waiting)}/{count} hosts have ended, {age}; waiting for {fold_names(waiting)}"
