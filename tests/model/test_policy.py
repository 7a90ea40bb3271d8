"""The policy: each rule as a state and a list of actions."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from fanout.model.actions import Abandon, Action, Go, Kill, Prepare, Release, Stop, StopReason
from fanout.model.events import (
    CleanedUp,
    Exited,
    Tick,
)
from fanout.model.policy import RELEASE_SECONDS, STOP_MARGIN_SECONDS, Policy, decide_actions
from fanout.model.state import HostState, Phase, RunState, apply_event

POLICY = Policy(grace=40.0, last_words=3.0, lease=300.0, start_timeout=120.0)
PATIENCE = POLICY.grace + STOP_MARGIN_SECONDS


def build_host(phase: Phase, **facts: Any) -> HostState:
    return HostState(name="", phase=phase, **{"connected": phase not in (Phase.WAITING, Phase.CONNECTING), **facts})


def build_running_host(**facts: Any) -> HostState:
    return build_host(Phase.RUNNING, **{"prepare_at": 0.0, "go_at": 0.0, **facts})


def build_state(*hosts: HostState, now: float = 1000.0, **facts: Any) -> RunState:
    """Return hosts a, b, c … at the time ``now``."""
    names = [chr(ord("a") + at) for at in range(len(hosts))]
    named = {name: HostState(**{**_list_fields(one), "name": name}) for name, one in zip(names, hosts, strict=True)}
    return RunState(order=tuple(names), hosts=named, began_at=0.0, now=now, **facts)


def _list_fields(one: HostState) -> dict[str, Any]:
    return {name: getattr(one, name) for name in (each.name for each in fields(HostState))}


def build_stop(name: str, reason: StopReason, why: str, grace: float = 40.0) -> Stop:
    return Stop(host=name, grace=grace, reason=reason, why=why)


# ----------------------------------------------------------------------------------------------------------- before Go


def test_a_host_that_answers_is_prepared_once() -> None:
    assert decide_actions(POLICY, build_state(build_host(Phase.CONNECTED), build_host(Phase.CONNECTING))) == (
        Prepare(host="a"),
    )
    assert (
        decide_actions(POLICY, build_state(build_host(Phase.CONNECTED, prepare_at=999.0), build_host(Phase.CONNECTING)))
        == ()
    )


def test_an_observer_prepares_no_host() -> None:
    assert decide_actions(Policy(prepare=False), build_state(build_host(Phase.CONNECTED))) == ()


def test_go_waits_for_the_last_host_and_is_then_sent_to_all() -> None:
    ready = build_host(Phase.PREPARED, prepare_at=990.0)
    assert decide_actions(POLICY, build_state(ready, build_host(Phase.CONNECTED, prepare_at=999.0))) == ()
    assert decide_actions(POLICY, build_state(ready, ready)) == (Go(host="a"), Go(host="b"))


def test_a_refusal_undoes_the_preparation_and_releases_the_others() -> None:
    before = build_state(
        build_host(Phase.REFUSED),
        build_host(Phase.PREPARED, prepare_at=0.0),
        build_host(Phase.CONNECTED),
        failures=(("a", 999.0),),
    )
    assert decide_actions(POLICY, before) == (
        build_stop("b", "host-failed", "a cannot take part", 0.0),
        Release(host="c"),
    )


def test_every_host_answers_before_a_failed_start_is_undone() -> None:
    before = build_state(
        build_host(Phase.CONNECT_FAILED),
        build_host(Phase.CONNECTED),
        build_host(Phase.CONNECTING),
        failures=(("a", 999.0),),
    )
    assert decide_actions(POLICY, before) == ()


def test_an_interrupt_before_go_waits_for_no_host() -> None:
    ready = build_host(Phase.PREPARED, prepare_at=999.0)
    before = build_state(
        build_host(Phase.CONNECTING), build_host(Phase.WAITING), build_host(Phase.CONNECTED), ready, interrupts=(2,)
    )
    left = "interrupted before it was connected"
    assert decide_actions(POLICY, before) == (
        Abandon(host="a", why=left),
        Abandon(host="b", why=left),
        Release(host="c"),
        build_stop("d", "interrupted", "interrupted", 0.0),
    )


def test_a_host_that_does_not_get_ready_has_a_timeout() -> None:
    before = build_state(build_host(Phase.CONNECTED, prepare_at=0.0), build_host(Phase.PREPARED, prepare_at=0.0))
    assert decide_actions(POLICY, before) == (
        Abandon(host="a", why="did not answer in time"),
        build_stop("b", "start-timeout", "a was not ready within 120 s", 0.0),
    )


def test_messages_from_the_launchers_suspend_count_before_any_host_is_blamed() -> None:
    """After Ctrl-Z, or on a closed laptop, the first look at the clock shows nothing about the hosts."""
    begun = build_state(build_host(Phase.CONNECTED, prepare_at=0.0), now=1.0)
    woken = apply_event(apply_event(begun, Tick(at=5.0)), Tick(at=900.0))
    assert decide_actions(POLICY, woken) == ()
    looked_on = woken
    for second in range(901, 1022):
        looked_on = apply_event(looked_on, Tick(at=float(second)))
    assert decide_actions(POLICY, looked_on) != ()
    waits = build_state(build_running_host(joined_at=10.0, waiting_at=5.0), build_running_host(), now=20.0)
    assert decide_actions(POLICY, apply_event(waits, Tick(at=400.0))) == ()
    assert (
        decide_actions(
            POLICY, build_state(build_running_host(joined_at=10.0, waiting_at=5.0), build_running_host(), now=400.0)
        )
        != ()
    )


def test_a_host_that_rolled_back_by_itself_undoes_the_others() -> None:
    """It had no contact for a minute: the launcher was suspended."""
    gone = CleanedUp(at=999.0, host="a", killed=0)
    before = build_state(
        build_host(Phase.CLEANED_UP, prepare_at=900.0, release_at=999.0, cleaned_up=gone),
        build_host(Phase.PREPARED, prepare_at=900.0),
    )
    assert decide_actions(POLICY, before) == (build_stop("b", "rolled-back", "a rolled back before the start", 0.0),)


# ------------------------------------------------------------------------------------------------------------ after Go


def test_policy_does_nothing_while_all_hosts_run() -> None:
    assert decide_actions(POLICY, build_state(build_running_host(), build_running_host(), now=1e6)) == ()


def test_the_others_have_time_for_their_last_lines_and_are_stopped_once() -> None:
    failed = build_running_host(stop_at=None)
    ended = build_host(Phase.EXITED, go_at=0.0, exit=Exited(at=998.0, host="a", code=3, signal=None))
    assert decide_actions(POLICY, build_state(ended, failed, failures=(("a", 998.0),))) == ()
    assert decide_actions(POLICY, build_state(ended, failed, now=1001.0, failures=(("a", 998.0),))) == (
        build_stop("b", "host-failed", "a failed"),
    )
    assert (
        decide_actions(
            POLICY, build_state(ended, build_running_host(stop_at=1001.0), now=1002.0, failures=(("a", 998.0),))
        )
        == ()
    )


def test_the_first_interrupt_stops_the_second_kills_the_third_leaves() -> None:
    assert decide_actions(POLICY, build_state(build_running_host(), interrupts=(2,))) == (
        build_stop("a", "interrupted", "interrupted"),
    )
    assert decide_actions(POLICY, build_state(build_running_host(stop_at=999.0), interrupts=(2, 2))) == (
        Kill(host="a"),
    )
    assert (
        decide_actions(POLICY, build_state(build_running_host(stop_at=999.0, kill_at=999.0), interrupts=(2, 2))) == ()
    )
    over = build_host(Phase.RELEASED, go_at=0.0)
    assert decide_actions(POLICY, build_state(build_running_host(stop_at=999.0), over, interrupts=(2, 2, 2))) == (
        Abandon(host="a", why="abandoned by the user"),
    )


def test_the_time_limit_counts_from_the_first_go() -> None:
    policy = Policy(time_limit=60.0)
    assert (
        decide_actions(
            policy, build_state(build_running_host(go_at=950.0), build_running_host(go_at=951.0), now=1009.0)
        )
        == ()
    )
    assert decide_actions(policy, build_state(build_running_host(go_at=950.0), now=1010.0)) == (
        build_stop("a", "time-limit", "time limit"),
    )


def test_a_host_that_does_not_start_stops_the_run() -> None:
    silent = build_host(Phase.PREPARED, prepare_at=0.0, go_at=800.0)
    why = "b did not start within 120 s"
    assert decide_actions(POLICY, build_state(build_running_host(go_at=800.0), silent)) == (
        build_stop("a", "start-timeout", why),
        build_stop("b", "start-timeout", why),
    )


@pytest.mark.parametrize(
    ("choice", "wishes"), [("wait", ()), ("stop", (build_stop("b", "early-exit", "a ended early"),))]
)
def test_an_early_exit_0_stops_the_others_only_on_request(choice: str, wishes: tuple[Action]) -> None:
    ended = build_host(Phase.RELEASED, go_at=0.0, exit=Exited(at=998.0, host="a", code=0, signal=None))
    assert decide_actions(Policy(on_early_exit=choice), build_state(ended, build_running_host())) == wishes


# ------------------------------------------------------------------------------------------------------------- the end


def test_a_host_that_is_gone_is_released_and_a_missing_bye_is_not_waited_for() -> None:
    assert decide_actions(POLICY, build_state(build_host(Phase.CLEANED_UP, go_at=0.0))) == (Release(host="a"),)
    assert decide_actions(POLICY, build_state(build_host(Phase.CLEANED_UP, go_at=0.0, release_at=999.0))) == ()
    late = build_host(Phase.CLEANED_UP, go_at=0.0, release_at=1000.0 - RELEASE_SECONDS - 0.1)
    assert decide_actions(POLICY, build_state(late)) == (Abandon(host="a", why="did not confirm the end of the run"),)


def test_a_stop_without_effect_becomes_a_kill_and_then_a_loss() -> None:
    assert decide_actions(POLICY, build_state(build_running_host(stop_at=1000.0 - PATIENCE))) == ()
    assert decide_actions(POLICY, build_state(build_running_host(stop_at=999.9 - PATIENCE))) == (Kill(host="a"),)
    given_up = decide_actions(POLICY, build_state(build_running_host(stop_at=999.9 - 2 * PATIENCE, kill_at=950.0)))
    assert given_up == (Abandon(host="a", why="did not end after the stop request"),)


def test_lost_link_is_awaited_until_the_lease_of_the_host_ends() -> None:
    def lose_link(seconds: float) -> RunState:
        return build_state(
            build_running_host(connected=False, disconnected_at=1000.0 - seconds, disconnect_reason="silence")
        )

    assert decide_actions(POLICY, lose_link(POLICY.lease + PATIENCE)) == ()
    assert decide_actions(POLICY, lose_link(POLICY.lease + PATIENCE + 1)) == (
        Abandon(host="a", why="no connection for 370 s (silence)"),
    )


@pytest.mark.parametrize(("lease", "seconds"), [(300.0, 30.0), (8.0, 15.0), (0.0, 30.0)])
def test_a_lost_host_alone_delays_the_end_of_a_failed_run_at_most_until_it_has_stopped_itself(
    lease: float, seconds: float
) -> None:
    policy = replace(POLICY, lease=lease, grace=2.0)
    ended = build_host(
        Phase.CLEANED_UP, go_at=0.0, release_at=999.0, exit=Exited(at=900.0, host="b", code=1, signal=None)
    )

    def gives_up(ago: float) -> bool:
        lost = build_running_host(connected=False, disconnected_at=1000.0 - ago, disconnect_reason="silence")
        actions = decide_actions(policy, build_state(lost, ended, failures=(("b", 900.0),), ending_at=900.0))
        return any(isinstance(action, Abandon) for action in actions)

    assert not gives_up(seconds - 0.1)
    assert gives_up(seconds + 0.1)


def test_a_host_whose_script_ended_must_report_that_it_is_gone() -> None:
    """Its processes may need a grace and a kill to end, but not without limit."""
    ended = Exited(at=1000.0 - 2 * PATIENCE - 0.1, host="a", code=0, signal=None)
    wedged = build_host(Phase.EXITED, go_at=0.0, exit=ended)
    assert decide_actions(POLICY, build_state(wedged)) == (
        Abandon(host="a", why="did not report what is left of the run"),
    )


def test_a_host_whose_log_still_arrives_is_not_given_up() -> None:
    """A flood may take longer than its script, if the link or the terminal is slow."""
    ended = Exited(at=1000.0 - 5 * PATIENCE, host="a", code=0, signal=None)
    draining = build_host(
        Phase.EXITED, go_at=0.0, stop_at=1000.0 - 4 * PATIENCE, kill_at=1.0, exit=ended, last_output_at=999.0
    )
    assert decide_actions(POLICY, build_state(draining)) == ()
