"""Index of a recorded run: the events that a viewer may look for, and the time of a step."""

from __future__ import annotations

import re

from fanout.model import hang_detection
from fanout.model.actions import Stop
from fanout.model.events import ActionSent, Answered, Connected, Disconnected, Event, Interrupted
from fanout.model.state import RunState
from fanout.run.replay_clock import Moment
from fanout.run.step_progress import StepProgress
from fanout.text.sanitize import to_single_line
from fanout.ui.status_messages import describe_stop_signal


class MomentIndex:
    """Event subscriber that lists the events of interest: start, lost connection, failure, hang, signal, stop."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self._failures = 0
        self._has_started = self._is_stopping = False
        self._hangs = hang_detection.HangWatch()
        self._lost: set[str] = set()

    def __call__(self, event: Event, state: RunState) -> None:
        for text in self._describe_event(event, state):
            self.moments.append(Moment(event.at - state.began_at, text))

    def _describe_event(self, event: Event, state: RunState) -> list[str]:
        """Return the descriptions of what this event begins; most events begin nothing."""
        out = []
        if not self._has_started and all(host.started_at is not None for host in state.all_hosts):
            self._has_started = True
            out.append("started on all hosts")
        if len(state.failures) > self._failures:
            self._failures = len(state.failures)
            out.append(f"{state.failures[-1][0]} failed")
        match event:
            case Disconnected() if event.host not in self._lost and not state.hosts[event.host].phase.is_final:
                self._lost.add(event.host)
                out.append(f"the connection to {event.host} was lost")
            case Connected() if event.host in self._lost:
                self._lost.discard(event.host)
                out.append(f"{event.host} reconnected")
            case Interrupted():
                text = describe_stop_signal(event)
                out.append(text if event.by else f"the launcher {text}")
            case ActionSent(action=Stop() as stop) if not self._is_stopping:
                self._is_stopping = True
                out.append(f"stopping all hosts: {to_single_line(stop.why)}")
            case Answered() if self._hangs.find_new(state):
                out.append("the run hangs")
            case _:  # of no interest
                pass
        return out


class StepFinder:
    """Event subscriber that finds when the run reached a step. ``at`` is None if it never did; ``highest`` is the last step."""

    def __init__(self, step: int, metric: re.Pattern[str] | None) -> None:
        self.at: float | None = None
        self._step = step
        self._steps = StepProgress(metric)

    @property
    def highest(self) -> int | None:
        return self._steps.last

    def __call__(self, event: Event, state: RunState) -> None:
        self._steps(event, state)
        if self.at is None and self._steps.last is not None and self._steps.last >= self._step:
            self.at = event.at - state.began_at
