"""Subscribers: the interface of everything that receives events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from fanout.model.events import Event
from fanout.model.outcome import RunOutcome
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState

Viewing = Literal["run", "attach", "replay"]  # it decides the action of Ctrl-C


class View(Protocol):
    """View of a run: a subscriber that one thread calls after every event, with the state after the event.

    ``broken`` is True once the reader of the output has exited (``fanout run … | head``): the caller then stops the
    run. ``begin`` is called once before the first event, ``finish`` once after ``close``. ``note`` prints a message of the
    caller. ``begin_attempt`` is called before the first event of each later attempt of a run with restarts.
    """

    @property
    def broken(self) -> bool: ...

    def begin(self, at: float, **facts: Any) -> None: ...

    def begin_attempt(self, heading: RunInfo) -> None: ...

    def __call__(self, event: Event, state: RunState) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...

    def finish(self, outcome: RunOutcome, text: str = "", verdict: Mapping[str, Any] | None = None) -> None: ...


class TextView:
    """Base of the views for people. The caller prints the plan and the report, so nothing is left to do at either end."""

    def begin(self, at: float, **facts: Any) -> None:
        """Ignore the call: the caller has printed the plan."""

    def begin_attempt(self, heading: RunInfo) -> None:
        """Ignore the call: only a view of a run with restarts shows several attempts."""

    def finish(self, outcome: RunOutcome, text: str = "", verdict: Mapping[str, Any] | None = None) -> None:
        """Ignore the call: the caller prints the report, which is ``text``."""


class Subscriber(Protocol):
    """A receiver of every event with the state after it, such as a view or the record.

    ``broken`` becomes true if the reader of its output is gone. This stops the run like a signal.
    """

    @property
    def broken(self) -> bool: ...

    def __call__(self, event: Event, state: RunState) -> None: ...
