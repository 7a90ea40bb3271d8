"""A run's record read while it is written: what ``attach``, ``stop`` and ``logs --follow`` have in common."""

from __future__ import annotations

import dataclasses
import os
import re
import select
import time
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
_NO_EVENT = re.compile(rb'^.{0,60}"type":"(?:run|note|verdict|end)"')


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
    there = _events(recorded)
    state = RunState.new(recorded.heading.hosts, at=recorded.began_at)
    number = -1
    for event in coming(recorded):
        if event is None:
            state = advance(state, Tick(at=max(state.now, time.time())))
            view(Tick(at=state.now), state)
        else:
            state, number = after(state, event), number + 1
            for each in (*learners, *tellers):
                each(event, state)
            if number >= there:
                view(event, state)
            elif number >= there - SHOWN_BEFORE or isinstance(event, StreamOpened):
                view(_short(event), state)
            if number == there - 1:
                for teller in tellers:
                    teller.speak(state)
        if view.broken or left():
            break
    return recorded.result()


def _events(recorded: Recorded) -> int:
    """How many have been written down so far; the heading and notes are none."""
    with open(os.path.join(recorded.path, "events.jsonl"), "rb") as file:
        return sum(1 for line in file if not _NO_EVENT.search(line))


def _short(event: Event) -> Event:
    """The last lines of a long piece of log."""
    if not isinstance(event, Chunk) or len(event.data) <= SHOWN_BYTES:
        return event
    data = event.data[-SHOWN_BYTES:]
    data = data[data.find(b"\n") + 1 :]
    return dataclasses.replace(event, offset=event.offset + len(event.data) - len(data), data=data)
