"""Tail of a run's record while the launcher writes it, for ``attach``, ``stop`` and ``logs --follow``."""

from __future__ import annotations

import dataclasses
import select
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from fanout import holder
from fanout.events import Chunk, Event, StreamOpened, Tick
from fanout.launch import Subscriber
from fanout.state import RunState, advance
from fanout.views.base import View
from fanout.views.recorded import Recorded, after

PAUSE_SECONDS = 0.2
GUARDIAN_SECONDS = 5.0  # from the death of the launcher to the guardian's first record
SHOWN_BEFORE = 20  # earlier events shown as context
SHOWN_BYTES = 2048  # log bytes shown of each earlier event


class Teller(Subscriber, Protocol):
    """Subscriber that reports nothing until the past of the record is read."""

    def speak(self, state: RunState) -> None: ...


def coming(recorded: Recorded) -> Iterator[Event | None]:
    """Yield all events to the end of the run; None while waiting for more. End when no process writes the record."""
    ending, seen_at = False, time.monotonic()
    for event in recorded.follow():
        if event is not None:
            yield event
        elif ending:
            return
        else:
            if not over(recorded):
                seen_at = time.monotonic()
            # read the bytes before that first; a killed launcher is followed by its guardian
            ending = recorded.ended or time.monotonic() - seen_at > GUARDIAN_SECONDS
            if not ending:
                yield None
                select.select([], [], [], PAUSE_SECONDS)


def over(recorded: Recorded) -> bool:
    """Return whether the record has its end, or no process holds the record."""
    return recorded.ended or holder.of(recorded.path) is None


def watch(
    recorded: Recorded,
    view: View,
    left: Callable[[], bool] = lambda: False,
    *,
    learners: Sequence[Subscriber] = (),
    tellers: Sequence[Teller] = (),
) -> Mapping[str, Any] | None:
    """Show the last earlier events and all new ones; return the outcome, or None if it is not known.

    ``learners`` and ``tellers`` get all events. While no event arrives, the view gets ticks, for ages and keys.
    ``left`` returns whether the user has detached.
    """
    state = RunState.new(recorded.heading.hosts, at=recorded.began_at)
    earlier: _Earlier | None = _Earlier(view)

    def catch_up() -> None:
        """Show the last earlier events, once all of them are read; from now on, the tellers report."""
        nonlocal earlier
        if earlier is not None:
            earlier.show()
            earlier = None
            for teller in tellers:
                teller.speak(state)

    for event in coming(recorded):
        if event is None:
            catch_up()
            state = advance(state, Tick(at=max(state.now, time.time())))
            view(Tick(at=state.now), state)
        else:
            state = after(state, event)
            for each in (*learners, *tellers):
                each(event, state)
            (view if earlier is None else earlier.add)(event, state)
        if view.broken or left():
            break
    catch_up()
    return recorded.result()


class _Earlier:
    """Buffer of earlier events: the view gets the last of them, and the name of every stream."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._last: deque[tuple[Event, RunState]] = deque()

    def add(self, event: Event, state: RunState) -> None:
        self._last.append((_short(event), state))
        if len(self._last) > SHOWN_BEFORE:
            earliest, then = self._last.popleft()
            if isinstance(earliest, StreamOpened):
                self._view(earliest, then)

    def show(self) -> None:
        for event, state in self._last:
            self._view(event, state)


def _short(event: Event) -> Event:
    """Return the event with only the last lines of a long log chunk."""
    if not isinstance(event, Chunk) or len(event.data) <= SHOWN_BYTES:
        return event
    data = event.data[-SHOWN_BYTES:]
    data = data[data.find(b"\n") + 1 :]
    return dataclasses.replace(event, offset=event.offset + len(event.data) - len(data), data=data)
