"""Event loop: apply each event to the state, pass it to the subscribers, carry out actions, until the run is over.

``Session`` holds the current state, which is the only mutable value of a run. The checks send questions through it,
``run`` executes a plan in it, and ``exec`` only observes. ``step`` processes every event.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from fanout import hangs, outcome, supervise
from fanout.checks.asking import Answer, Ask
from fanout.events import Action, Chunk, Event, Forget, GiveUp, Interrupted, OnHost, Stop
from fanout.fan import Fan
from fanout.inquiry import Inquiry
from fanout.outcome import RunOutcome
from fanout.plan import LaunchPlan
from fanout.state import ImpossibleMove, Phase, RunState, advance

TICK_SECONDS = 0.1
BARE_SECONDS = 5.0  # for a plain command to end after an interrupt
SIGPIPE = 13


class Subscriber(Protocol):
    """A receiver of every event with the state after it, such as a view or the record.

    ``broken`` becomes true if the reader of its output is gone. This stops the run like a signal.
    """

    @property
    def broken(self) -> bool: ...

    def __call__(self, event: Event, state: RunState) -> None: ...


class Session:
    """The hosts of one command, from the first connection attempt to the last event."""

    def __init__(
        self, fan: Fan, names: Sequence[str], subscribers: Sequence[Subscriber], *, state: RunState | None = None
    ) -> None:
        """Start with ``state``, if another launcher left the run in it."""
        self._fan = fan
        self._subscribers = tuple(subscribers)
        self.state = state if state is not None else RunState.new(names, at=fan.clock())
        self._numbers = itertools.count(1)
        self._carriers: dict[tuple[str, int], float] = {}  # when the connection of an open question was made

    def tell(self, subscriber: Subscriber) -> None:
        """Send every event from now on to one more subscriber."""
        self._subscribers = (*self._subscribers, subscriber)

    def step(self, timeout: float = TICK_SECONDS) -> Event:
        """Process one event, or a Tick after ``timeout`` seconds. Return it."""
        event = self._fan.next(timeout)
        self._fold(event)
        if SIGPIPE not in self.state.interrupts and any(subscriber.broken for subscriber in self._subscribers):
            self._fold(Interrupted(at=self._fan.clock(), signal=SIGPIPE))
        return event

    def _fold(self, event: Event) -> None:
        try:
            self.state = advance(self.state, event)
        except ImpossibleMove as error:
            self._distrust(event, error)
            return
        for subscriber in self._subscribers:
            subscriber(event, self.state)

    def _distrust(self, event: Event, error: ImpossibleMove) -> None:
        """Give up a host that violates the protocol. Drop an event of a host that was given up already."""
        if isinstance(event, OnHost) and not self.state.hosts[event.host].phase.over:
            self._do(GiveUp(host=event.host, why=f"protocol error ({error})"))

    def _do(self, action: Action, plan: LaunchPlan | None = None) -> None:
        for event in self._fan.do(action, plan):
            self._fold(event)

    def connect(self) -> None:
        """Wait until every host is connected or unreachable, or the user interrupts."""
        while not self.state.interrupts and any(
            host.phase in (Phase.WAITING, Phase.DIALLING) for host in self.state.all
        ):
            self.step()

    def ask(self, asks: Sequence[Ask]) -> list[Answer]:
        """Send all questions at once and wait until each is settled. A missing answer is an Answer with an error."""
        questions = [Inquiry(ask, self._fan.clock()) for ask in asks]
        for question in questions:
            self._put(question)
        while not self.state.interrupts and [question for question in questions if not question.settle(self.state)]:
            self.step()
            for question in questions:
                if question.is_due(self.state.hosts[question.ask.host]):
                    self._put(question)
        return [self._settled(question) for question in questions]

    def _put(self, question: Inquiry) -> None:
        ask, number, now = question.ask, next(self._numbers), self._fan.clock()
        linked = self.state.hosts[ask.host].linked
        connection = self._fan.ask(ask.host, number, ask.what, ask.args, ask.timeout) if linked else None
        if connection is not None:
            question.put(number, connection, now)
            self._carriers[ask.host, number] = connection

    def _settled(self, question: Inquiry) -> Answer:
        """Return the answer and remove it from the state. If there is none, cancel the question on its host."""
        key = question.ask.host, question.number
        if question.settle(self.state) and key in self.state.answers:
            left = {each: event for each, event in self.state.answers.items() if each != key}
            self.state = replace(self.state, answers=left)
        elif question.number:
            self._fan.cancel(*key)
        if not question.ask.holds:
            self._carriers.pop(key, None)
        return question.answer or Answer(error="interrupted", handle=question.number)

    def still_holds(self, host: str, handle: int) -> bool:
        """Return whether a long-lived question still has its connection. Its resources on the host end with that."""
        now = self.state.hosts[host]
        return now.linked and now.linked_at == self._carriers.get((host, handle))

    def cancel(self, host: str, handle: int) -> None:
        """Cancel a long-lived question."""
        self._carriers.pop((host, handle), None)
        self._fan.cancel(host, handle)

    def run(self, policy: supervise.Policy, plan: LaunchPlan) -> RunOutcome:
        """Follow the policy until the run is over.

        A log chunk needs no decision, so chunks are processed in a row, but no longer than one tick.
        """
        while True:
            for action in supervise.decide(policy, self.state):
                self._do(action, plan)
            if self.state.over:
                return outcome.of(self.state)
            decided_at = self.state.now
            while isinstance(self.step(), Chunk) and self.state.now - decided_at < TICK_SECONDS:
                pass

    def watch(self) -> RunOutcome:
        """Observe plain commands until every host is done. An interrupt ends the commands, a second one the wait."""
        stopped_at: float | None = None
        while not self.state.over:
            if self.state.interrupts and stopped_at is None:
                stopped_at = self.state.now
                self._end_commands()
            late = stopped_at is not None and self.state.now - stopped_at > BARE_SECONDS
            if late or len(self.state.interrupts) > 1:
                for host in self.state.all:
                    if not host.phase.over:
                        self._do(GiveUp(host=host.name, why="interrupted"))
                break
            self.step()
        return outcome.of(self.state)

    def _end_commands(self) -> None:
        for host in self.state.all:
            if host.phase is Phase.RUNNING:
                self._do(Stop(host=host.name, grace=BARE_SECONDS, why="interrupted"))
            elif not host.phase.over:
                self._do(GiveUp(host=host.name, why="interrupted"))

    def end(self, *, grace: float, until: float, why: str) -> RunOutcome:
        """Stop a resumed run on every host that can be reached before ``until``, and clean up there.

        Stop is sent again to hosts that the dead launcher had stopped, because they may not have received it.
        """
        stopped: set[str] = set()
        forgotten: set[str] = set()
        while not self.state.over and self.state.now < until:
            for host in self.state.all:
                if host.linked and host.phase in (Phase.PREPARED, Phase.RUNNING) and host.name not in stopped:
                    stopped.add(host.name)
                    self._do(Stop(host=host.name, grace=grace, why=why))
                elif host.linked and host.phase is Phase.GONE and host.name not in forgotten:
                    forgotten.add(host.name)
                    self._do(Forget(host=host.name))
            self.step()
        return outcome.of(self.state)

    def look_on(self, plan: LaunchPlan, left: Callable[[], bool], policy: supervise.Policy) -> RunOutcome:
        """Observe another launcher's run, to its end or until the user leaves. Nothing on the hosts changes.

        The other launcher does not report a hang here, so this one asks for stacks after the policy's ``hang_timeout``.
        """
        while not self.state.over and not self.state.interrupts and not left():
            for action in (*hangs.look(policy.hang_timeout, self.state), *supervise.unheard(policy, self.state)):
                self._do(action, plan)
            for host in self.state.all:
                if host.phase is Phase.GONE and host.forget_at is None:
                    self._do(Forget(host=host.name))
            self.step()
        return outcome.of(self.state)

    def dismiss(self) -> None:
        """Release all hosts before anything was prepared."""
        for host in self.state.all:
            if host.phase is Phase.LINKED:
                self._do(Forget(host=host.name))
            elif not host.phase.over:
                self._do(GiveUp(host=host.name, why="not needed"))
        until = self._fan.clock() + supervise.FAREWELL_SECONDS
        while not self.state.over and self.state.now < until:
            self.step()
