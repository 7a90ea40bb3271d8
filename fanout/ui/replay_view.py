"""Replay view: the live view of a recorded run, which can skip events and begin again."""

from __future__ import annotations

from fanout.model.events import Event, Heartbeat
from fanout.model.state import RunState
from fanout.text.units import format_clock
from fanout.ui.host_load import parse_load
from fanout.ui.live_view import LiveView

METRIC_SECONDS = 0.5  # of the run: the metrics are read as often as while it is shown


class ReplayView(LiveView):
    """Live view that also takes events without showing their lines, so that metrics and counts are right after a seek."""

    _read_at = 0.0

    def restart_run(self, at: float) -> None:
        """Forget all events. The filters stay as the user chose them."""
        self._reset_run(self._heading, at)

    def skip_event(self, event: Event, state: RunState) -> None:
        """Take an event without showing it."""
        self._state = state
        if isinstance(event, Heartbeat) and (load := parse_load(event.load)) is not None:
            self._loads[event.host] = load
        self._flow.process_event(event)
        self._narrator.handle_event(event, state)
        if abs(state.now - self._read_at) >= METRIC_SECONDS:
            self._read_at = state.now
            self._flow.metric_tracker.add_bars(self._flow.streams.get_bars(), state.now)  # parses what it holds

    def end_skip(self, state: RunState) -> None:
        """Show the last lines before the new position, and the block."""
        self._state = state
        self._flow.flush_folding(state.now)
        self._narrator.flush_messages()
        self._pending.clear()
        self.note(f"replay at {format_clock(state.now - state.began_at)}; the lines before it:")
        for log_line in self._flow.find_recent(self._size()[1] // 2, state.now):
            self._queue_lines(self._lines.format_line(log_line, state.now))
        self.draw_frame(force=True)
