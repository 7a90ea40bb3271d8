"""Player of a recorded run: send each event to the view when it is due, and go to the position that a key asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from fanout.model.events import Event, Tick
from fanout.model.state import RunState
from fanout.model.subscriber import Subscriber, View
from fanout.run.replay_clock import ReplayClock
from fanout.ui.replay_view import ReplayView

TICK_SECONDS = 0.1
_Pair = tuple[Event, RunState]


class ReplayPlayer:
    """Player. ``read_events`` returns the events from the start of the run, ``build_learners`` new subscribers for them."""

    def __init__(
        self,
        read_events: Callable[[], Iterable[_Pair]],
        view: View,
        clock: ReplayClock,
        build_learners: Callable[[], Sequence[Subscriber]],
        *,
        began_at: float,
        delay: Callable[[float], None],
    ) -> None:
        self._read_events, self._build_learners = read_events, build_learners
        self._view, self._clock, self._delay = view, clock, delay
        self._began_at = began_at
        self._learners = build_learners()
        self._events: Iterator[_Pair] = iter(read_events())
        self._next: _Pair | None = next(self._events, None)
        self._state: RunState | None = None  # after the last event

    def play(self) -> None:
        """Play to the end of the run, or until the viewer quits or the view is broken."""
        while (self._next is not None or self._clock.target is not None) and not (
            self._clock.left or self._view.broken
        ):
            if self._clock.target is not None:
                self._seek()
            elif self._next is not None and not self._wait_for(self._next[0]):
                self._show_next(*self._next)

    def _wait_for(self, event: Event) -> bool:
        """Wait a moment if the event is not due; the view gets a tick. Return whether the replay waited.

        In a pause, the events before the position are due: a slow terminal may not have shown them yet.
        """
        clock = self._clock
        left = event.at - self._began_at - clock.at
        if left <= 0:
            return False
        self._delay(TICK_SECONDS if clock.paused else min(TICK_SECONDS, left / clock.speed))
        if self._state is not None:
            now = max(self._state.now, self._began_at + clock.position.at)
            self._state = replace(self._state, now=now)
            self._view(Tick(at=now), self._state)
        return True

    def _show_next(self, event: Event, state: RunState) -> None:
        for learner in self._learners:
            learner(event, state)
        if self._clock.speed == float("inf"):
            self._clock.move(max(0.0, event.at - self._began_at))
        self._state = state
        self._view(event, state)
        self._next = next(self._events, None)

    def _seek(self) -> None:
        """Read all events up to the target without showing them; to go back, begin again."""
        target, self._clock.target = self._clock.target or 0.0, None
        view = self._view
        assert isinstance(view, ReplayView)
        if self._state is not None and target < self._state.now - self._began_at:
            self._events = iter(self._read_events())
            self._next, self._state = next(self._events, None), None
            self._learners = self._build_learners()
            view.restart_run(self._began_at)
        while self._next is not None and self._next[0].at - self._began_at <= target:
            event, self._state = self._next
            for learner in self._learners:
                learner(event, self._state)
            view.skip_event(event, self._state)
            self._next = next(self._events, None)
        self._clock.move(target)
        if self._state is not None:
            self._state = replace(self._state, now=max(self._state.now, self._began_at + target))
            view.end_skip(self._state)
