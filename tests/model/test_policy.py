"""The policy: each rule as a state and a list of actions, and a loop over random worlds of hypothesis."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fanout.model import outcome
from fanout.model.actions import Abandon, Action, Go, Kill, Prepare, Release, Stop, StopReason
from fanout.model.events import (
    ActionSent,
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
from fanout.model.policy import RELEASE_SECONDS, STOP_MARGIN_SECONDS, Policy, decide_actions
from fanout.model.state import HostState, Phase, RunState, apply_event

POLICY = Policy(grace=40.0, last_words=3.0, lease=300.0, start_timeout=120.0)
PATIENCE = POLICY.grace + STOP_MARGIN_SECONDS


def host(phase: Phase, **facts: Any) -> HostState:
    return HostState(name="", phase=phase, **{"connected": phase not in (Phase.WAITING, Phase.CONNECTING), **facts})


def running(**facts: Any) -> HostState:
    return host(Phase.RUNNING, **{"prepare_at": 0.0, "go_at": 0.0, **facts})


def state(*hosts: HostState, now: float = 1000.0, **facts: Any) -> RunState:
    """Return hosts a, b, c … at the time ``now``."""
    names = [chr(ord("a") + at) for at in range(len(hosts))]
    named = {name: HostState(**{**_fields(one), "name": name}) for name, one in zip(names, hosts, strict=True)}
    return RunState(order=tuple(names), hosts=named, began_at=0.0, now=now, **facts)


def _fields(one: HostState) -> dict[str, Any]:
    return {name: getattr(one, name) for name in HostState.__slots__}


def stop(name: str, reason: StopReason, why: str, grace: float = 40.0) -> Stop:
    return Stop(host=name, grace=grace, reason=reason, why=why)


# ----------------------------------------------------------------------------------------------------------- before Go


def test_a_host_that_answers_is_prepared_once() -> None:
    assert decide_actions(POLICY, state(host(Phase.CONNECTED), host(Phase.CONNECTING))) == (Prepare(host="a"),)
    assert decide_actions(POLICY, state(host(Phase.CONNECTED, prepare_at=999.0), host(Phase.CONNECTING))) == ()


def test_an_observer_prepares_no_host() -> None:
    assert decide_actions(Policy(prepare=False), state(host(Phase.CONNECTED))) == ()


def test_go_waits_for_the_last_host_and_is_then_sent_to_all() -> None:
    ready = host(Phase.PREPARED, prepare_at=990.0)
    assert decide_actions(POLICY, state(ready, host(Phase.CONNECTED, prepare_at=999.0))) == ()
    assert decide_actions(POLICY, state(ready, ready)) == (Go(host="a"), Go(host="b"))


def test_a_refusal_undoes_the_preparation_and_releases_the_others() -> None:
    before = state(
        host(Phase.REFUSED), host(Phase.PREPARED, prepare_at=0.0), host(Phase.CONNECTED), failures=(("a", 999.0),)
    )
    assert decide_actions(POLICY, before) == (stop("b", "host-failed", "a cannot take part", 0.0), Release(host="c"))


def test_every_host_answers_before_a_failed_start_is_undone() -> None:
    before = state(host(Phase.CONNECT_FAILED), host(Phase.CONNECTED), host(Phase.CONNECTING), failures=(("a", 999.0),))
    assert decide_actions(POLICY, before) == ()


def test_an_interrupt_before_go_waits_for_no_host() -> None:
    ready = host(Phase.PREPARED, prepare_at=999.0)
    before = state(host(Phase.CONNECTING), host(Phase.WAITING), host(Phase.CONNECTED), ready, interrupts=(2,))
    left = "interrupted before it was connected"
    assert decide_actions(POLICY, before) == (
        Abandon(host="a", why=left),
        Abandon(host="b", why=left),
        Release(host="c"),
        stop("d", "interrupted", "interrupted", 0.0),
    )


def test_a_host_that_does_not_get_ready_has_a_timeout() -> None:
    before = state(host(Phase.CONNECTED, prepare_at=0.0), host(Phase.PREPARED, prepare_at=0.0))
    assert decide_actions(POLICY, before) == (
        Abandon(host="a", why="did not answer in time"),
        stop("b", "start-timeout", "a was not ready within 120 s", 0.0),
    )


def test_messages_from_the_launchers_suspend_count_before_any_host_is_blamed() -> None:
    """After Ctrl-Z, or on a closed laptop, the first look at the clock shows nothing about the hosts."""
    begun = state(host(Phase.CONNECTED, prepare_at=0.0), now=1.0)
    woken = apply_event(apply_event(begun, Tick(at=5.0)), Tick(at=900.0))
    assert decide_actions(POLICY, woken) == ()
    looked_on = woken
    for second in range(901, 1022):
        looked_on = apply_event(looked_on, Tick(at=float(second)))
    assert decide_actions(POLICY, looked_on) != ()
    waits = state(running(joined_at=10.0, waiting_at=5.0), running(), now=20.0)
    assert decide_actions(POLICY, apply_event(waits, Tick(at=400.0))) == ()
    assert decide_actions(POLICY, state(running(joined_at=10.0, waiting_at=5.0), running(), now=400.0)) != ()


def test_a_host_that_rolled_back_by_itself_undoes_the_others() -> None:
    """It had no contact for a minute: the launcher was suspended."""
    gone = CleanedUp(at=999.0, host="a", killed=0)
    before = state(
        host(Phase.CLEANED_UP, prepare_at=900.0, release_at=999.0, cleaned_up=gone),
        host(Phase.PREPARED, prepare_at=900.0),
    )
    assert decide_actions(POLICY, before) == (stop("b", "rolled-back", "a rolled back before the start", 0.0),)


# ------------------------------------------------------------------------------------------------------------ after Go


def test_policy_does_nothing_while_all_hosts_run() -> None:
    assert decide_actions(POLICY, state(running(), running(), now=1e6)) == ()


def test_the_others_have_time_for_their_last_lines_and_are_stopped_once() -> None:
    failed = running(stop_at=None)
    ended = host(Phase.EXITED, go_at=0.0, exit=Exited(at=998.0, host="a", code=3, signal=None))
    assert decide_actions(POLICY, state(ended, failed, failures=(("a", 998.0),))) == ()
    assert decide_actions(POLICY, state(ended, failed, now=1001.0, failures=(("a", 998.0),))) == (
        stop("b", "host-failed", "a failed"),
    )
    assert decide_actions(POLICY, state(ended, running(stop_at=1001.0), now=1002.0, failures=(("a", 998.0),))) == ()


def test_the_first_interrupt_stops_the_second_kills_the_third_leaves() -> None:
    assert decide_actions(POLICY, state(running(), interrupts=(2,))) == (stop("a", "interrupted", "interrupted"),)
    assert decide_actions(POLICY, state(running(stop_at=999.0), interrupts=(2, 2))) == (Kill(host="a"),)
    assert decide_actions(POLICY, state(running(stop_at=999.0, kill_at=999.0), interrupts=(2, 2))) == ()
    over = host(Phase.RELEASED, go_at=0.0)
    assert decide_actions(POLICY, state(running(stop_at=999.0), over, interrupts=(2, 2, 2))) == (
        Abandon(host="a", why="abandoned by the user"),
    )


def test_the_time_limit_counts_from_the_first_go() -> None:
    policy = Policy(time_limit=60.0)
    assert decide_actions(policy, state(running(go_at=950.0), running(go_at=951.0), now=1009.0)) == ()
    assert decide_actions(policy, state(running(go_at=950.0), now=1010.0)) == (stop("a", "time-limit", "time limit"),)


def test_a_host_that_does_not_start_stops_the_run() -> None:
    silent = host(Phase.PREPARED, prepare_at=0.0, go_at=800.0)
    why = "b did not start within 120 s"
    assert decide_actions(POLICY, state(running(go_at=800.0), silent)) == (
        stop("a", "start-timeout", why),
        stop("b", "start-timeout", why),
    )


@pytest.mark.parametrize(("choice", "wishes"), [("wait", ()), ("stop", (stop("b", "early-exit", "a ended early"),))])
def test_an_early_exit_0_stops_the_others_only_on_request(choice: str, wishes: tuple[Action]) -> None:
    ended = host(Phase.RELEASED, go_at=0.0, exit=Exited(at=998.0, host="a", code=0, signal=None))
    assert decide_actions(Policy(on_early_exit=choice), state(ended, running())) == wishes


# ------------------------------------------------------------------------------------------------------------- the end


def test_a_host_that_is_gone_is_released_and_a_missing_bye_is_not_waited_for() -> None:
    assert decide_actions(POLICY, state(host(Phase.CLEANED_UP, go_at=0.0))) == (Release(host="a"),)
    assert decide_actions(POLICY, state(host(Phase.CLEANED_UP, go_at=0.0, release_at=999.0))) == ()
    late = host(Phase.CLEANED_UP, go_at=0.0, release_at=1000.0 - RELEASE_SECONDS - 0.1)
    assert decide_actions(POLICY, state(late)) == (Abandon(host="a", why="did not confirm the end of the run"),)


def test_a_stop_without_effect_becomes_a_kill_and_then_a_loss() -> None:
    assert decide_actions(POLICY, state(running(stop_at=1000.0 - PATIENCE))) == ()
    assert decide_actions(POLICY, state(running(stop_at=999.9 - PATIENCE))) == (Kill(host="a"),)
    given_up = decide_actions(POLICY, state(running(stop_at=999.9 - 2 * PATIENCE, kill_at=950.0)))
    assert given_up == (Abandon(host="a", why="did not end after the stop request"),)


def test_lost_link_is_awaited_until_the_lease_of_the_host_ends() -> None:
    def cut(seconds: float) -> RunState:
        return state(running(connected=False, disconnected_at=1000.0 - seconds, disconnect_reason="silence"))

    assert decide_actions(POLICY, cut(POLICY.lease + PATIENCE)) == ()
    assert decide_actions(POLICY, cut(POLICY.lease + PATIENCE + 1)) == (
        Abandon(host="a", why="no connection for 370 s (silence)"),
    )


def test_a_host_whose_script_ended_must_report_that_it_is_gone() -> None:
    """Its processes may need a grace and a kill to end, but not without limit."""
    ended = Exited(at=1000.0 - 2 * PATIENCE - 0.1, host="a", code=0, signal=None)
    wedged = host(Phase.EXITED, go_at=0.0, exit=ended)
    assert decide_actions(POLICY, state(wedged)) == (Abandon(host="a", why="did not report what is left of the run"),)


def test_a_host_whose_log_still_arrives_is_not_given_up() -> None:
    """A flood may take longer than its script, if the link or the terminal is slow."""
    ended = Exited(at=1000.0 - 5 * PATIENCE, host="a", code=0, signal=None)
    draining = host(
        Phase.EXITED, go_at=0.0, stop_at=1000.0 - 4 * PATIENCE, kill_at=1.0, exit=ended, last_output_at=999.0
    )
    assert decide_actions(POLICY, state(draining)) == ()


# -------------------------------------------------------------------------------------------------- random worlds


@dataclass
class World:
    """Hosts that keep the protocol but otherwise act at random, and the loop of Session."""

    policy: Policy
    state: RunState
    done: list[Action] = field(default_factory=list)

    def happen(self, event: Event) -> None:
        self.state = apply_event(self.state, event)
        for action in decide_actions(self.policy, self.state):
            self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Go):
            assert all(one.phase is Phase.PREPARED for one in self.state.all_hosts)
        self.done.append(action)
        self.state = apply_event(self.state, ActionSent(at=self.state.now, action=action))
        if isinstance(action, Abandon):
            self.state = apply_event(self.state, HostLost(at=self.state.now, host=action.host, why=action.why))

    def possible(self, name: str) -> Sequence[Event]:
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
        return [*self._said(one), Heartbeat(at=at, host=name), Disconnected(at=at, host=name, why="cut")]

    def _said(self, one: HostState) -> Sequence[Event]:
        name, at = one.name, self.state.now
        started = Started(at=at, host=name, pid=8)
        exits: list[Event] = [
            Exited(at=at, host=name, code=code, signal=None if code is not None else 9) for code in (0, 3, None)
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
                return [started, Chunk(at=at, host=name, stream=0, offset=one.received_bytes, data=b"x"), *exits]
            case Phase.EXITED:
                return [gone]
            case _:
                return [gone] + ([forgotten] if one.release_at is not None else [])


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
    tape=[(0, 0, 0.0), (0, 1, 0.0), (0, 0, 0.0), (0, 3, 0.0), (0, 0, 0.0)],
)
@given(
    policy=POLICIES,
    count=st.integers(1, 4),
    tape=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7), st.floats(0, 40)), max_size=60),
)
def test_run_is_safe_and_ends_in_any_order_of_events(
    policy: Policy, count: int, tape: list[tuple[int, int, float]]
) -> None:
    """Go is sent at most once and only if all are ready, each action once, and an interrupt ends the run in bounded time."""
    names = [chr(ord("a") + at) for at in range(count)]
    world = World(policy=policy, state=RunState.initial(names, at=0.0))
    for which, what, seconds in tape:
        options = world.possible(names[which % count])
        if options:
            world.happen(options[what % len(options)])
        world.happen(Tick(at=world.state.now + seconds))
    if not world.state.is_over:
        world.happen(Interrupted(at=world.state.now, signal=2))
    limit = world.state.now + policy.lease + 4 * (policy.grace + STOP_MARGIN_SECONDS) + policy.start_timeout
    while not world.state.is_over and world.state.now < limit:
        world.happen(Tick(at=world.state.now + 5.0))
    assert world.state.is_over
    for kind, group in itertools.groupby(sorted(world.done, key=_kind), key=_kind):
        hosts = [action.host for action in group]
        assert len(hosts) == len(set(hosts)), f"{kind} was wished twice"
    well = all(one.has_succeeded and one.phase is Phase.RELEASED for one in world.state.all_hosts)
    result = outcome.outcome_of(world.state)
    stop = world.state.first_stop
    ended = bool(world.state.interrupts) or (stop is not None and stop.reason == "time-limit")
    assert (result.exit_code == 0) == (well and not ended)  # also a Ctrl-C, or a time limit, that came too late


def _kind(action: Action) -> str:
    return type(action).__name__
