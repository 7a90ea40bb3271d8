"""Tail of a run's record while the launcher writes it, for ``attach``, ``stop`` and ``logs --follow``."""

from __future__ import annotations

import dataclasses
import select
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from fanout.model.events import Chunk, Event, StreamOpened, Tick
from fanout.model.state import RunState, apply_event
from fanout.model.subscriber import Subscriber, View
from fanout.record import recorded_attempts, writer_lock
from fanout.record.run_reader import RunReader, apply_recorded_event

PAUSE_SECONDS = 0.2
GUARDIAN_SECONDS = 5.0  # from the death of the launcher to the guardian's first record
SHOWN_BEFORE = 20  # earlier events shown as context
SHOWN_BYTES = 2048  # log bytes shown of each earlier event


class Reporter(Subscriber, Protocol):
    """Subscriber that reports nothing until the past of the record is read."""

    def start_reporting(self, state: RunState) -> None: ...


def follow_events(recorded: RunReader, *, reads_log: bool = True) -> Iterator[Event | None]:
    """Yield all events to the end of the attempt; None while waiting for more. End when no process writes the record."""
    ending, seen_at = False, time.monotonic()
    for event in recorded.follow_events(reads_log=reads_log):
        if event is not None:
            yield event
        elif ending:
            return
        else:
            if not has_no_writer(recorded):
                seen_at = time.monotonic()
            # read the bytes before that first; a killed launcher is followed by its guardian
            ending = _is_complete(recorded, silent_for=time.monotonic() - seen_at)
            if not ending:
                yield None
                select.select([], [], [], PAUSE_SECONDS)


def _is_complete(recorded: RunReader, *, silent_for: float) -> bool:
    """Return whether nothing more follows in this record: it has its end, no process writes it, or the next attempt began."""
    if recorded_attempts.find_next_attempt(recorded.path) is not None:
        return True
    if not recorded.has_outcome and silent_for <= GUARDIAN_SECONDS:
        return False
    return recorded_attempts.read_pending_restart(recorded.path) is None


def has_no_writer(recorded: RunReader) -> bool:
    """Return whether the record has its end, or no process holds the record."""
    return recorded.has_outcome or writer_lock.read_owner(recorded.path) is None


def follow_record(
    recorded: RunReader,
    view: View,
    left: Callable[[], bool] = lambda: False,
    *,
    learners: Sequence[Subscriber] = (),
    reporters: Sequence[Reporter] = (),
) -> Mapping[str, Any] | None:
    """Show the last earlier events and all new ones; return the outcome, or None if it is not known.

    ``learners`` and ``reporters`` get all events. While no event arrives, the view gets ticks, for ages and keys.
    ``left`` returns whether the user has detached.
    """
    state = RunState.initial(recorded.heading.hosts, at=recorded.began_at)
    earlier: _EarlierEvents | None = _EarlierEvents(view)

    def catch_up() -> None:
        """Show the last earlier events, once all of them are read; from now on, the reporters report."""
        nonlocal earlier
        if earlier is not None:
            earlier.show_events()
            earlier = None
            for reporter in reporters:
                reporter.start_reporting(state)

    for event in follow_events(recorded):
        if event is None:
            catch_up()
            state = apply_event(state, Tick(at=max(state.now, time.time())))
            view(Tick(at=state.now), state)
        else:
            state = apply_recorded_event(state, event)
            for each in (*learners, *reporters):
                each(event, state)
            (view if earlier is None else earlier.add_event)(event, state)
        if view.broken or left():
            break
    catch_up()
    return recorded.read_result()


class _EarlierEvents:
    """Buffer of earlier events: the view gets the last of them, and the name of every stream."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._last: deque[tuple[Event, RunState]] = deque()

    def add_event(self, event: Event, state: RunState) -> None:
        self._last.append((_shorten_event(event), state))
        if len(self._last) > SHOWN_BEFORE:
            earliest, then = self._last.popleft()
            if isinstance(earliest, StreamOpened):
                self._view(earliest, then)

    def show_events(self) -> None:
        for event, state in self._last:
            self._view(event, state)


def _shorten_event(event: Event) -> Event:
    """Return the event with only the last lines of a long log chunk."""
    if not isinstance(event, Chunk) or len(event.data) <= SHOWN_BYTES:
        return event
    data = event.data[-SHOWN_BYTES:]
    data = data[data.find(b"\n") + 1 :]
    return dataclasses.replace(event, offset=event.offset + len(event.data) - len(data), data=data)
