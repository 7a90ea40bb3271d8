"""Event loop: apply each event to the state, pass it to the subscribers, carry out actions, until the run is over.

``CommandSession`` holds the current state, which is the only mutable value of a run. The checks send questions through it,
``run_plan`` executes a plan in it, and ``exec`` only observes. ``run_step`` processes every event.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fanout.model import hang_detection, outcome, planned_stop
from fanout.model.actions import Abandon, Action, Release, Stop, StopReason
from fanout.model.events import Chunk, Event, Heartbeat, HostEvent, Interrupted, SaveRequested, StopRequested, Tick
from fanout.model.outcome import RunOutcome
from fanout.model.pending_question import PendingQuestion
from fanout.model.plan import LaunchPlan
from fanout.model.policy import RELEASE_SECONDS, Policy, abandon_silent_hosts, decide_actions
from fanout.model.rpc import ProbeAnswer, ProbeRequest
from fanout.model.state import InvalidTransition, Phase, RunState, apply_event
from fanout.model.subscriber import Subscriber
from fanout.remote.pool import ConnectionPool

TICK_SECONDS = 0.1
DECISION_SECONDS = 0.004  # for each host: the pause between two decisions that only the time requires
LONGEST_DECISION_SECONDS = 0.5
EVENT_SECONDS = 0.0001  # for each host: the time in which further events share the decision of the first
COMMAND_GRACE_SECONDS = 5.0  # for a plain command to end after an interrupt
SIGPIPE, SIGTERM = 13, 15

#: Events that require no decision at once: they only show that a host is there, or that time has passed.
_WITHOUT_DECISION = (Chunk, Heartbeat, Tick)


class Session:
    """The hosts of one command, from the first connection attempt to the last event."""

    def __init__(
        self,
        pool: ConnectionPool,
        names: Sequence[str],
        subscribers: Sequence[Subscriber],
        *,
        state: RunState | None = None,
    ) -> None:
        """Start with ``state``, if another launcher left the run in it."""
        self._pool = pool
        self._subscribers = tuple(subscribers)
        self.state = state if state is not None else RunState.initial(names, at=pool.clock())
        self._numbers = itertools.count(1)
        self._leads = False  # whether this launcher decides about the run; else it observes the run, or ends it
        self._carriers: dict[tuple[str, int], float] = {}  # when the connection of an open question was made

    def add_subscriber(self, subscriber: Subscriber) -> None:
        """Send every event from now on to one more subscriber."""
        self._subscribers = (*self._subscribers, subscriber)

    def run_step(self, timeout: float = TICK_SECONDS) -> Event:
        """Process one event, or a Tick after ``timeout`` seconds. Return it."""
        event = self._pool.next_event(timeout)
        self._apply_event(event)
        if isinstance(event, StopRequested) and self._leads and self.state.stopped_by and not self.state.interrupts:
            self._apply_event(Interrupted(at=event.at, signal=SIGTERM, by=event.by))
        if SIGPIPE not in self.state.interrupts and any(subscriber.broken for subscriber in self._subscribers):
            self._apply_event(Interrupted(at=self._pool.clock(), signal=SIGPIPE))
        return event

    def add_event(self, event: Event) -> None:
        """Process an event of the launcher itself, at the current time."""
        self._apply_event(event)

    def _apply_event(self, event: Event) -> None:
        try:
            self.state = apply_event(self.state, event)
        except InvalidTransition as error:
            self._abandon_host(event, error)
            return
        for subscriber in self._subscribers:
            subscriber(event, self.state)

    def _abandon_host(self, event: Event, error: InvalidTransition) -> None:
        """Give up a host that violates the protocol. Drop an event of a host that was given up already."""
        if isinstance(event, HostEvent) and not self.state.hosts[event.host].phase.is_final:
            self._carry_out(Abandon(host=event.host, why=f"protocol error ({error})"))

    def _carry_out(self, action: Action, plan: LaunchPlan | None = None) -> None:
        for event in self._pool.carry_out(action, plan):
            self._apply_event(event)

    def connect_hosts(self) -> None:
        """Wait until every host is connected or unreachable, or the user interrupts."""
        while not self.state.interrupts and any(
            host.phase in (Phase.WAITING, Phase.CONNECTING) for host in self.state.all_hosts
        ):
            self.run_step()

    def ask(self, asks: Sequence[ProbeRequest]) -> list[ProbeAnswer]:
        """Send all questions at once and wait until each is settled. A missing answer is an Answer with an error."""
        questions = self.post_questions(asks)
        while not self.state.interrupts and [question for question in questions if not question.is_settled(self.state)]:
            self.run_step()
            self.send_due_questions(questions)
        return self.take_answers(questions)

    def send_due_questions(self, questions: Sequence[PendingQuestion]) -> None:
        """Send the questions that wait for a connection and have one now."""
        for question in questions:
            if question.is_due(self.state.hosts[question.ask.host]):
                self._send_question(question)

    def post_questions(self, asks: Sequence[ProbeRequest]) -> list[PendingQuestion]:
        """Send questions without waiting; return them. Call ``take_answers`` when all are settled."""
        questions = [PendingQuestion(ask, self._pool.clock()) for ask in asks]
        for question in questions:
            self._send_question(question)
        return questions

    def take_answers(self, questions: Sequence[PendingQuestion]) -> list[ProbeAnswer]:
        """Return the answers to settled questions, and remove them from the state."""
        return [self._take_answer(question) for question in questions]

    def _send_question(self, question: PendingQuestion) -> None:
        ask, number, now = question.ask, next(self._numbers), self._pool.clock()
        is_connected = self.state.hosts[ask.host].connected
        connection = (
            self._pool.send_question(ask.host, number, ask.what, ask.args, ask.timeout) if is_connected else None
        )
        if connection is not None:
            question.mark_sent(number, connection, now)
            self._carriers[ask.host, number] = connection

    def _take_answer(self, question: PendingQuestion) -> ProbeAnswer:
        """Return the answer and remove it from the state. If there is none, cancel the question on its host."""
        key = question.ask.host, question.number
        if question.is_settled(self.state) and key in self.state.answers:
            left = {each: event for each, event in self.state.answers.items() if each != key}
            self.state = replace(self.state, answers=left)
        elif question.number:
            self._pool.cancel_question(*key)
        if not question.ask.holds:
            self._carriers.pop(key, None)
        return question.answer or ProbeAnswer(error="interrupted", reason="interrupted", handle=question.number)

    def is_still_open(self, host: str, handle: int) -> bool:
        """Return whether a long-lived question still has its connection. Its resources on the host end with that."""
        now = self.state.hosts[host]
        return now.connected and now.connected_at == self._carriers.get((host, handle))

    def cancel(self, host: str, handle: int) -> None:
        """Cancel a long-lived question."""
        self._carriers.pop((host, handle), None)
        self._pool.cancel_question(host, handle)

    def run_plan(self, policy: Policy, plan: LaunchPlan) -> RunOutcome:
        """Follow the policy until the run is over."""
        self._leads = True
        while True:
            for action in decide_actions(policy, self.state):
                self._carry_out(action, plan)
            if self.state.is_over or (policy.hold and _is_settled(self.state)):
                return outcome.outcome_of(self.state)
            self._run_until_decision()

    def _run_until_decision(self) -> None:
        """Process events until one requires a decision, or until the pause between two decisions is over.

        A decision looks at all hosts, so its cost grows with their number, and so do the pauses. At the start and at the
        end of a run, all hosts report the same within a moment; one decision then follows from many events.
        """
        hosts = len(self.state.order)
        until = self.state.now + max(TICK_SECONDS, min(LONGEST_DECISION_SECONDS, DECISION_SECONDS * hosts))
        event = self.run_step()
        while isinstance(event, _WITHOUT_DECISION):
            if self.state.now >= until:
                return
            event = self.run_step()
        together = self.state.now + EVENT_SECONDS * hosts
        while not isinstance(event, (Tick, Interrupted)) and (left := together - self.state.now) > 0:
            event = self.run_step(left)

    def wait(self, seconds: float) -> bool:
        """Keep the connections for ``seconds``; return False at once if the user interrupts."""
        until = self._pool.clock() + seconds
        while not self.state.interrupts and self.state.now < until:
            self.run_step(min(TICK_SECONDS, max(0.0, until - self.state.now)))
        return not self.state.interrupts

    def watch_commands(self) -> RunOutcome:
        """Observe plain commands until every host is done. An interrupt ends the commands, a second one the wait."""
        stopped_at: float | None = None
        while not self.state.is_over:
            if self.state.interrupts and stopped_at is None:
                stopped_at = self.state.now
                self._end_commands()
            late = stopped_at is not None and self.state.now - stopped_at > COMMAND_GRACE_SECONDS
            if late or len(self.state.interrupts) > 1:
                for host in self.state.all_hosts:
                    if not host.phase.is_final:
                        self._carry_out(Abandon(host=host.name, why="interrupted"))
                break
            self.run_step()
        return outcome.outcome_of(self.state)

    def _end_commands(self) -> None:
        for host in self.state.all_hosts:
            if host.phase is Phase.RUNNING:
                self._carry_out(
                    Stop(host=host.name, grace=COMMAND_GRACE_SECONDS, reason="interrupted", why="interrupted")
                )
            elif not host.phase.is_final:
                self._carry_out(Abandon(host=host.name, why="interrupted"))

    def end_run(self, *, grace: float, until: float, reason: StopReason, why: str) -> RunOutcome:
        """Stop a resumed run on every host that can be reached before ``until``, and clean up there.

        Stop is sent again to hosts that the dead launcher had stopped, because they may not have received it.
        """
        ended: set[tuple[str, type[Action]]] = set()
        while not self.state.is_over and self.state.now < until:
            self.end_connected_hosts(ended, grace=grace, reason=reason, why=why)
            self.run_step()
        return outcome.outcome_of(self.state)

    def end_connected_hosts(
        self, ended: set[tuple[str, type[Action]]], *, grace: float, reason: StopReason, why: str
    ) -> None:
        """Stop and release each connected host of a resumed run, once; ``ended`` collects what was sent."""
        for host in self.state.all_hosts:
            if host.connected and host.phase in (Phase.PREPARED, Phase.RUNNING) and (host.name, Stop) not in ended:
                ended.add((host.name, Stop))
                self._carry_out(Stop(host=host.name, grace=grace, reason=reason, why=why))
            elif host.connected and host.phase is Phase.CLEANED_UP and (host.name, Release) not in ended:
                ended.add((host.name, Release))
                self._carry_out(Release(host=host.name))

    def get_received(self, host: str) -> Mapping[int, tuple[int, int]]:
        """Return (size, CRC-32) of each stream of a host so far."""
        return self._pool.connections[host].get_received()

    def save_run(self, request: SaveRequested) -> None:
        """Ask the ranks of a resumed run to save, and wait until they have ended, or until the time is over."""
        policy = Policy(prepare=False)
        self._apply_event(request)
        while not self.state.is_over:
            planned = planned_stop.find_planned_stop(policy, self.state)
            if planned is None or planned_stop.is_due(planned, self.state):
                return
            for action in planned_stop.decide_saves(policy, self.state):
                self._carry_out(action)
            self.run_step()

    def observe_run(self, plan: LaunchPlan, left: Callable[[], bool], policy: Policy) -> RunOutcome:
        """Observe another launcher's run, to its end or until the user leaves. Nothing on the hosts changes.

        The other launcher does not report a hang here, so this one asks for stacks after the policy's ``hang_timeout``.
        """
        while not self.state.is_over and not self.state.interrupts and not left():
            for action in (
                *hang_detection.ask_for_stacks(policy.hang_timeout, self.state),
                *abandon_silent_hosts(policy, self.state),
            ):
                self._carry_out(action, plan)
            for host in self.state.all_hosts:
                if host.phase is Phase.CLEANED_UP and host.release_at is None:
                    self._carry_out(Release(host=host.name))
            self._run_until_decision()
        return outcome.outcome_of(self.state)

    def release_hosts(self) -> None:
        """Release all hosts before anything was prepared."""
        for host in self.state.all_hosts:
            if host.phase is Phase.CONNECTED:
                self._carry_out(Release(host=host.name))
            elif not host.phase.is_final:
                self._carry_out(Abandon(host=host.name, why="not needed"))
        until = self._pool.clock() + RELEASE_SECONDS
        while not self.state.is_over and self.state.now < until:
            self.run_step()


def _is_settled(state: RunState) -> bool:
    """Return whether every host has ended and answered all questions, although it may not be released yet."""
    return all(
        host.phase.is_final
        or (host.phase is Phase.CLEANED_UP and not (host.connected and hang_detection.has_open_question(state, host)))
        for host in state.all_hosts
    )
