"""A run's record read while it is written: what ``attach``, ``stop`` and ``logs --follow`` have in common."""

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
HEIR_SECONDS = 5.0  # from the death of whoever wrote the record to its guardian's first word
SHOWN_BEFORE = 20  # events of what had happened before we came, for context
SHOWN_BYTES = 2048  # of the log in each of them


class Teller(Subscriber, Protocol):
    """It may speak once what comes is news."""

    def speak(self, state: RunState) -> None: ...


def coming(recorded: Recorded) -> Iterator[Event | None]:
    """All events to the end of the run; None where more is waited for. Over when nobody is there to write any more."""
    ending, seen_at = False, time.monotonic()
    for event in recorded.follow():
        if event is not None:
            yield event
        elif ending:
            return
        else:
            if not over(recorded):
                seen_at = time.monotonic()
            # what was written before that is read first, and a launcher that was killed has a guardian
            ending = recorded.ended or time.monotonic() - seen_at > HEIR_SECONDS
            if not ending:
                yield None
                select.select([], [], [], PAUSE_SECONDS)


def over(recorded: Recorded) -> bool:
    """Is the end written down, or nobody there who could still write it?"""
    return recorded.ended or holder.of(recorded.path) is None


def watch(
    recorded: Recorded,
    view: View,
    left: Callable[[], bool] = lambda: False,
    *,
    learners: Sequence[Subscriber] = (),
    tellers: Sequence[Teller] = (),
) -> Mapping[str, Any] | None:
    """Show what happens from now on, and a little of what was before; the outcome, None where it is not known.

    ``learners`` and ``tellers`` see everything. While nothing happens time passes all the same in the view, for ages
    and keys. ``left``: has the user seen enough?
    """
    state = RunState.new(recorded.heading.hosts, at=recorded.began_at)
    earlier: _Earlier | None = _Earlier(view)

    def catch_up() -> None:
        """All that had been written before is read: show the last of it; from here on tellers speak."""
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
    """What happened before the user looked: the view is shown the last events, and the name of every stream."""

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
    """The last lines of a long piece of log."""
    if not isinstance(event, Chunk) or len(event.data) <= SHOWN_BYTES:
        return event
    data = event.data[-SHOWN_BYTES:]
    data = data[data.find(b"\n") + 1 :]
    return dataclasses.replace(event, offset=event.offset + len(event.data) - len(data), data=data)
