"""The loop: events are folded, shown and answered, until the state says that all is over.

``Session`` holds the one changing thing of a run, the current state. It is used by the check (questions to all hosts),
by ``run`` (the whole life of a plan) and by ``exec``; everything it does is in ``step``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fanout import outcome, supervise
from fanout.events import Answered, Event
from fanout.fan import Fan
from fanout.outcome import RunOutcome
from fanout.plan import LaunchPlan
from fanout.state import Phase, RunState, advance

TICK_SECONDS = 0.1


class Subscriber(Protocol):
    """Whoever wants to see every event with the state after it: views, the record."""

    def __call__(self, event: Event, state: RunState) -> None: ...


class Session:
    """The hosts of one command, from the first dial to the last word."""

    def __init__(self, fan: Fan, names: Sequence[str], subscribers: Sequence[Subscriber]) -> None:
        self._fan = fan
        self._subscribers = list(subscribers)
        self.state = RunState.new(names, at=fan.clock())
        self._numbers = itertools.count(1)

    def step(self, timeout: float = TICK_SECONDS) -> None:
        """One event, or a tick."""
        self._fold(self._fan.next(timeout))

    def _fold(self, event: Event) -> None:
        self.state = advance(self.state, event)
        for subscriber in self._subscribers:
            subscriber(event, self.state)

    def connect(self) -> None:
        """Until every host answers, cannot be reached, or the user has had enough."""
        while not self.state.interrupts and any(
            host.phase in (Phase.WAITING, Phase.DIALLING) for host in self.state.all
        ):
            self.step()

    def ask(self, questions: Sequence[tuple[str, str, Mapping[str, Any], float]]) -> list[tuple[int, Answered | None]]:
        """(host, what, args, timeout) each; all at once. None where the host has gone or the user interrupted."""
        asked: list[tuple[int, str]] = []
        for host, what, args, timeout in questions:
            number = next(self._numbers)
            asked.append((number, host))
            if self.state.hosts[host].linked:
                self._fan.ask(host, number, what, args, timeout)
        while not self.state.interrupts and not all(self._settled(number, host) for number, host in asked):
            self.step()
        return [(number, self.state.answers.get((host, number))) for number, host in asked]

    def _settled(self, number: int, host: str) -> bool:
        return (host, number) in self.state.answers or not self.state.hosts[host].linked

    def cancel(self, host: str, number: int) -> None:
        self._fan.cancel(host, number)

    def run(self, policy: supervise.Policy, plan: LaunchPlan | None) -> RunOutcome:
        """Follow the policy to the end."""
        while True:
            for action in supervise.decide(policy, self.state):
                for event in self._fan.do(action, plan):
                    self._fold(event)
            if self.state.over:
                return outcome.of(self.state)
            self.step()
