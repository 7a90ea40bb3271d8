"""How often a session decides: the events of many hosts that come together share one decision."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import cast

import pytest

from fanout.model.actions import Action, Go, Prepare, Release, Stop
from fanout.model.events import (
    ActionSent,
    CleanedUp,
    Connected,
    Connecting,
    Event,
    Exited,
    Heartbeat,
    Interrupted,
    Prepared,
    Released,
    Started,
    Tick,
)
from fanout.model.plan import LaunchPlan
from fanout.model.policy import Policy, decide_actions
from fanout.model.state import RunState
from fanout.remote.pool import ConnectionPool
from fanout.run import session
from tests.histories import T0

EVENT_SECONDS = 0.0001  # between two events of the hosts


class PlayedPool:
    """Hosts that carry out every action at once; their time passes with each event."""

    def __init__(self, names: list[str]) -> None:
        self.now = T0
        self.clock = lambda: self.now
        self._events: deque[Event] = deque()
        self._started: set[str] = set()
        for name in names:
            self.add_events(Connecting(at=T0, host=name, attempt=1))
            self.add_events(Connected(at=T0, host=name, attempt=1, took=0.1, hello={}))

    def add_events(self, *events: Event) -> None:
        self._events.extend(events)

    def next_event(self, timeout: float) -> Event:
        if self._events:
            self.now += EVENT_SECONDS
            return replace(self._events.popleft(), at=self.now)
        self.now += timeout
        return Tick(at=self.now)

    def carry_out(self, action: Action, plan: LaunchPlan | None) -> list[Event]:
        host, at = action.host, self.now
        match action:
            case Prepare():
                self.add_events(Prepared(at=at, host=host, pid=1))
            case Go():
                self._started.add(host)
                self.add_events(Started(at=at, host=host, pid=2), Exited(at=at, host=host, code=0, signal=None))
                self.add_events(CleanedUp(at=at, host=host, killed=0))
            case Stop() if host not in self._started:
                self.add_events(CleanedUp(at=at, host=host, killed=0))
            case Release():
                self.add_events(Released(at=at, host=host))
            case _:
                pass
        return [ActionSent(at=at, action=action)]


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the times of all decisions of a session."""
    times: list[float] = []

    def record_decision(policy: Policy, state: RunState) -> tuple[Action, ...]:
        times.append(state.now)
        return decide_actions(policy, state)

    monkeypatch.setattr(session, "decide_actions", record_decision)
    return times


def build_session(names: list[str]) -> tuple[session.Session, PlayedPool]:
    pool = PlayedPool(names)
    return session.Session(cast(ConnectionPool, pool), names, []), pool


def run_to_end(run: session.Session) -> None:
    run.run_plan(Policy(), cast(LaunchPlan, None))
    assert run.state.is_over


@pytest.mark.parametrize("hosts", [1, 4, 64, 512])
def test_a_run_needs_few_decisions_for_any_number_of_hosts(hosts: int, decisions: list[float]) -> None:
    names = [f"h{number}" for number in range(hosts)]
    run, _ = build_session(names)
    run_to_end(run)
    assert not run.state.failures
    assert len(decisions) < 60  # one for each event would be 3000 at 512 hosts


def test_a_decision_waits_only_a_moment_for_the_events_of_others(decisions: list[float]) -> None:
    run, pool = build_session(["a", "b"])
    run_to_end(run)
    assert pool.now - T0 < 0.1


def test_heartbeats_require_no_decision(decisions: list[float]) -> None:
    names = [f"h{number}" for number in range(200)]
    run, pool = build_session(names)
    run_to_end(run)
    before = len(decisions)
    again, pool = build_session(names)
    pool.add_events(*(Heartbeat(at=T0, host=name) for name in names for _ in range(20)))
    run_to_end(again)
    assert len(decisions) - before < before + 10


def test_an_interrupt_is_decided_at_once_among_many_events(decisions: list[float]) -> None:
    """The events of 500 hosts follow it."""
    names = [f"h{number}" for number in range(500)]
    run, pool = build_session(names)
    pool.add_events(Interrupted(at=T0, signal=2))
    pool.add_events(*(Heartbeat(at=T0, host=name) for name in names for _ in range(20)))
    run.run_plan(Policy(), cast(LaunchPlan, None))
    interrupted_at = run.state.interrupted_at
    assert interrupted_at is not None
    assert min(at for at in decisions if at >= interrupted_at) - interrupted_at < 0.1
