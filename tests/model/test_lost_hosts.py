"""Dead hosts: one is the cause of later failures, and the launcher does not wait for its lease."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fanout.model import outcome
from fanout.model.actions import Abandon, Go, Prepare
from fanout.model.events import (
    ActionSent,
    CleanedUp,
    Connected,
    Connecting,
    Disconnected,
    Exited,
    Heartbeat,
    HostLost,
    Prepared,
    Started,
)
from fanout.model.policy import ALONE_SECONDS, Policy, decide_actions, hosts_waited_for
from fanout.model.state import Phase, RunState, apply_event
from tests.model.test_policy import POLICY, build_host, build_running_host, build_state, build_stop


def build_disconnected_run(seconds: float, **facts: Any) -> RunState:
    """Return a state: a has been without a link for so long; b has ended with an error, and is inspected."""
    lost = 1000.0 - seconds
    stopped = (
        {"stop": build_stop("a", "host-failed", "b failed"), "stop_at": 995.0} if facts.get("failures") != () else {}
    )
    dead = build_running_host(
        connected=False, disconnected_at=lost, last_message_at=lost - 1, disconnect_reason="silence", **stopped
    )
    ended = build_host(
        Phase.RELEASED, prepare_at=0.0, go_at=0.0, connected=False, exit=Exited(at=1.0, host="b", code=0, signal=None)
    )
    return build_state(dead, ended, **{"failures": (("b", 990.0 - seconds),), **facts})


def test_the_launcher_does_not_wait_for_the_lease_of_a_dead_host_when_all_others_have_ended() -> None:
    assert decide_actions(POLICY, build_disconnected_run(ALONE_SECONDS)) == ()
    (given_up,) = decide_actions(POLICY, build_disconnected_run(ALONE_SECONDS + 1))
    assert isinstance(given_up, Abandon)
    ends = time.strftime("%H:%M:%S", time.localtime(999.0 - ALONE_SECONDS - 1 + POLICY.lease))
    assert (
        given_up.why == f"no connection for 30 s (silence): unknown, it may still run until its lease expires at {ends}"
    )


def test_a_host_without_a_lease_is_reported_as_running_on() -> None:
    (given_up,) = decide_actions(Policy(lease=0.0), build_disconnected_run(ALONE_SECONDS + 1))
    assert isinstance(given_up, Abandon)
    assert given_up.why.endswith("it may still run, because it has no lease")


def test_healthy_run_waits_for_a_disconnected_host() -> None:
    """The others ended with 0: the host may have done so too, and its link may come back."""
    assert decide_actions(POLICY, build_disconnected_run(ALONE_SECONDS + 100, failures=())) == ()


def test_a_host_that_is_still_being_ended_keeps_the_lease_for_all() -> None:
    dead = build_running_host(connected=False, disconnected_at=900.0, disconnect_reason="silence")
    left = build_running_host(stop_at=999.0, stop=build_stop("b", "host-failed", "a failed"))
    before = build_state(dead, left, failures=(("b", 998.0),), ending_at=999.0)
    assert not any(isinstance(action, Abandon) for action in decide_actions(POLICY, before))


def test_waited_hosts_have_a_deadline() -> None:
    assert hosts_waited_for(POLICY, build_disconnected_run(10.0)) == {"a": 990.0 + ALONE_SECONDS}
    assert hosts_waited_for(POLICY, build_disconnected_run(10.0, failures=())) == {}
    assert (
        hosts_waited_for(POLICY, build_state(build_running_host(), build_running_host(), failures=(("a", 1.0),))) == {}
    )


def both_run() -> RunState:
    world = RunState.initial(["a", "b"], at=0.0)
    for name in ("a", "b"):
        for event in (Connecting(at=0.0, host=name, attempt=1), Connected(at=0.1, host=name, attempt=1, took=0.1, hello={}),
                      ActionSent(at=0.2, action=Prepare(host=name)), Prepared(at=0.3, host=name, pid=1),
                      ActionSent(at=0.4, action=Go(host=name)), Started(at=0.5, host=name, pid=2), Heartbeat(at=5.0, host=name)):  # fmt: skip
            world = apply_event(world, event)
    return world


def test_a_lost_host_failed_at_its_last_message_so_it_is_the_cause_and_the_status_is_255() -> None:
    """The others fail because of it, minutes before the launcher gives it up."""
    world = both_run()
    for event in (
        Disconnected(at=22.0, host="a", why="silent for 15 s", silent_for=15.0),
        Exited(at=40.0, host="b", code=1, signal=None),
        CleanedUp(at=41.0, host="b", killed=0),
        HostLost(at=80.0, host="a", why="no connection for 30 s"),
    ):
        world = apply_event(world, event)
    assert [name for name, _ in world.failures] == ["a", "b"]
    assert world.failures[0][1] == 5.0  # at its last message
    assert (outcome.outcome_of(world).exit_code, outcome.outcome_of(world).first) == (255, "a")


def test_a_keeper_that_died_with_its_host_is_the_cause_too() -> None:
    """The host was rebooted, and its record shows that the end is not known."""
    world = both_run()
    for event in (
        Disconnected(at=22.0, host="a", why="silent for 15 s", silent_for=15.0),
        Exited(at=40.0, host="b", code=1, signal=None),
        Connecting(at=50.0, host="a", attempt=1),
        Connected(at=51.0, host="a", attempt=1, took=0.1, hello={}),
        Prepared(at=51.1, host="a", pid=1),
        Exited(at=51.2, host="a", code=None, signal=None, why="the keeper on the host died without a record"),
    ):
        world = apply_event(world, event)
    assert (outcome.outcome_of(world).exit_code, outcome.outcome_of(world).first) == (255, "a")
    assert "the keeper on the host died" in outcome.outcome_of(world).headline


@pytest.mark.parametrize(
    ("before", "now", "restarted"),
    [
        ({"boot_id": "k1"}, {"boot_id": "k2"}, "host"),
        ({"boot_id": "k1 500"}, {"boot_id": "k1 900"}, "container"),
        ({"boot_id": "k1 500"}, {"boot_id": "k2 100"}, "host"),
        ({"boot_id": "k1"}, {"boot_id": "k1"}, None),
        ({"boot_id": "k1"}, {}, None),
        ({"boot_id": "k1"}, {"boot_id": "k2", "hostname": "other"}, None),
    ],
)
def test_two_boot_ids_show_what_was_restarted(
    before: dict[str, str], now: dict[str, str], restarted: str | None
) -> None:
    """The file of an engine on the host proves nothing: it is also on hosts that once were a container's image."""
    seen = {"hostname": "a", "engine": "docker"}
    world = apply_event(both_run(), Connected(at=21.0, host="a", attempt=1, took=0.1, hello={**seen, **before}))
    world = apply_event(world, Disconnected(at=22.0, host="a", why="the connection was closed"))
    world = apply_event(world, Connected(at=51.0, host="a", attempt=2, took=0.1, hello={**seen, **now}))
    assert world.hosts["a"].restarted == restarted
