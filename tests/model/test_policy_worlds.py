"""The policy in random worlds: hosts that keep the protocol but otherwise act at random."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fanout.model import hang_detection, outcome
from fanout.model.actions import Abandon, Action, Go, Release
from fanout.model.events import (
    ActionSent,
    Answered,
    Chunk,
    CleanedUp,
    Connected,
    ConnectFailed,
    Connecting,
    Disconnected,
    Event,
    Exited,
    Heartbeat,
    HostLost,
    Interrupted,
    Prepared,
    Refused,
    Released,
    Started,
    Tick,
)
from fanout.model.policy import STOP_MARGIN_SECONDS, Policy, decide_actions
from fanout.model.state import HostState, Phase, RunState, apply_event


@dataclass
class World:
    """Hosts that keep the protocol but otherwise act at random, and the loop of Session."""

    policy: Policy
    state: RunState
    done: list[Action] = field(default_factory=list)

    def handle_event(self, event: Event, *, decides: bool = True) -> None:
        """Apply an event. Without a decision, the next event arrives before the launcher decides about both."""
        self.state = apply_event(self.state, event)
        for action in decide_actions(self.policy, self.state) if decides else ():
            self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Go):
            assert all(one.phase is Phase.PREPARED for one in self.state.all_hosts)
        if isinstance(action, Release):
            host = self.state.hosts[action.host]
            assert not (host.connected and hang_detection.has_open_question(self.state, host))
        self.done.append(action)
        self.state = apply_event(self.state, ActionSent(at=self.state.now, action=action))
        if isinstance(action, Abandon):
            self.state = apply_event(self.state, HostLost(at=self.state.now, host=action.host, why=action.why))

    def list_possible_events(self, name: str) -> Sequence[Event]:
        """Return what the host could do next."""
        one, at = self.state.hosts[name], self.state.now
        if one.phase is Phase.WAITING:
            return [Connecting(at=at, host=name, attempt=1)]
        linked: Event = Connected(at=at, host=name, attempt=1, took=0.1, hello={})
        if one.phase is Phase.CONNECTING:
            failed = ConnectFailed(at=at, host=name, kind="Unreachable", message="no route", hint="")
            return [Connecting(at=at, host=name, attempt=2), linked, failed]
        if one.phase.is_final:
            return []
        if not one.connected:
            return [Connecting(at=at, host=name, attempt=2), linked, HostLost(at=at, host=name, why="nothing is there")]
        return [*self._list_host_events(one), Heartbeat(at=at, host=name), Disconnected(at=at, host=name, why="cut")]

    def _list_host_events(self, one: HostState) -> Sequence[Event]:
        name, at = one.name, self.state.now
        started = Started(at=at, host=name, pid=8)
        exits: list[Event] = [
            Exited(at=at, host=name, code=code, signal=None if code is not None else 9) for code in (0, 3, None)
        ]
        answers: list[Event] = [
            Answered(at=at, host=name, ask=question.ask, value={}, error="")
            for question, _ in one.examined
            if (name, question.ask) not in self.state.answers
        ]
        gone, forgotten = CleanedUp(at=at, host=name, killed=1), Released(at=at, host=name)
        match one.phase:
            case Phase.CONNECTED:
                ready: list[Event] = [Prepared(at=at, host=name, pid=7)]
                refused: list[Event] = [Refused(at=at, host=name, kind="busy", message="busy", hint="")]
                home: list[Event] = [forgotten] if one.release_at is not None else []
                return (ready + refused if one.prepare_at is not None else []) + home
            case Phase.PREPARED:
                return [Prepared(at=at, host=name, pid=7), gone, *([started, *exits] if one.go_at is not None else [])]
            case Phase.RUNNING:
                return [
                    started,
                    Chunk(at=at, host=name, stream=0, offset=one.received_bytes, data=b"x"),
                    *exits,
                    *answers,
                ]
            case Phase.EXITED:
                return [gone, *answers]
            case _:
                return [gone, *answers] + ([forgotten] if one.release_at is not None else [])


POLICIES = st.builds(
    Policy,
    grace=st.sampled_from([0.0, 40.0]),
    last_words=st.sampled_from([0.0, 3.0]),
    lease=st.sampled_from([5.0, 300.0]),
    time_limit=st.sampled_from([None, 60.0]),
    on_early_exit=st.sampled_from(["wait", "stop"]),
)


@settings(max_examples=300, deadline=None)
@example(  # the user interrupts after the only host has ended well and was released
    policy=Policy(grace=0.0, last_words=0.0, lease=5.0, time_limit=None, on_early_exit="wait"),
    count=1,
    tape=[(0, 0, 0.0, True), (0, 1, 0.0, True), (0, 0, 0.0, True), (0, 3, 0.0, True), (0, 0, 0.0, True)],
)
@example(  # the user interrupts after the only host has ended well, while it is verified
    policy=Policy(grace=0.0, last_words=0.0, lease=5.0, time_limit=None, on_early_exit="wait"),
    count=1,
    tape=[(0, 0, 0.0, True), (0, 1, 0.0, True), (0, 0, 0.0, True), (0, 3, 0.0, True), (0, 0, 1.0, True)],
)
@example(  # the only host fails and cleans up before the launcher decides
    policy=Policy(grace=0.0, last_words=0.0, lease=5.0, time_limit=None, on_early_exit="wait"),
    count=1,
    tape=[
        (0, 0, 0.0, True),
        (0, 1, 0.0, True),
        (0, 0, 0.0, True),
        (0, 2, 0.0, True),
        (0, 3, 0.0, False),
        (0, 0, 0.0, True),
    ],
)
@given(
    policy=POLICIES,
    count=st.integers(1, 4),
    tape=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7), st.floats(0, 40), st.booleans()), max_size=60),
)
def test_run_is_safe_and_ends_in_any_order_of_events(
    policy: Policy, count: int, tape: list[tuple[int, int, float, bool]]
) -> None:
    """Go is sent at most once and only if all are ready, each action once, and an interrupt ends the run in bounded time."""
    names = [chr(ord("a") + at) for at in range(count)]
    world = World(policy=policy, state=RunState.initial(names, at=0.0))
    for which, what, seconds, decides in tape:
        options = world.list_possible_events(names[which % count])
        if options:
            world.handle_event(options[what % len(options)], decides=decides)
        if decides:
            world.handle_event(Tick(at=world.state.now + seconds))
    if not world.state.is_over:
        world.handle_event(Interrupted(at=world.state.now, signal=2))
    limit = world.state.now + policy.lease + 4 * (policy.grace + STOP_MARGIN_SECONDS) + policy.start_timeout
    while not world.state.is_over and world.state.now < limit:
        world.handle_event(Tick(at=world.state.now + 5.0))
    assert world.state.is_over
    for kind, group in itertools.groupby(sorted(world.done, key=_get_kind), key=_get_kind):
        hosts = [action.host for action in group]
        assert len(hosts) == len(set(hosts)), f"{kind} was wished twice"
    well = all(one.has_succeeded and one.phase is Phase.RELEASED for one in world.state.all_hosts)
    result = outcome.outcome_of(world.state)
    stop = world.state.first_stop
    at = world.state.interrupted_at
    interrupted = at is not None and not all(one.exit is not None and one.exit.at < at for one in world.state.all_hosts)
    ended = interrupted or (stop is not None and stop.reason == "time-limit")
    assert (result.exit_code == 0) == (well and not ended)  # a Ctrl-C while the hosts are verified comes too late


def _get_kind(action: Action) -> str:
    return type(action).__name__
