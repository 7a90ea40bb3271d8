"""Planned stops: when the hosts ask the ranks to save, when the stop follows, and the exit status."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fanout.model.actions import Action, Save, Stop
from fanout.model.errors import UsageError
from fanout.model.events import (
    ActionSent,
    Event,
    Exited,
    FirstStep,
    HostLost,
    Interrupted,
    RankEnded,
    SaveHandlers,
    SaveRequested,
    Tick,
)
from fanout.model.outcome import outcome_of
from fanout.model.policy import Policy, decide_actions
from fanout.model.save_signals import parse_save_signal
from fanout.model.settings import merge_settings
from fanout.model.state import RunState, apply_event
from fanout.run.recovery_options import check_restart_settings
from tests.histories import History

HOSTS = ("gpu01", "gpu02")
LIMIT = Policy(time_limit=1000.0, save_before=100.0, save_signal="USR1", last_words=3.0, grace=40.0)
OPEN = Policy(last_words=3.0, grace=40.0)


def start_run() -> RunState:
    """Return the state of two running hosts."""
    history = History(*HOSTS).connect_hosts().start_hosts()
    return apply_events(RunState.initial(HOSTS, at=history.began_at), *history.events)


def apply_events(state: RunState, *events: Event) -> RunState:
    for event in events:
        state = apply_event(state, event)
    return state


def get_start(state: RunState) -> float:
    return min(host.go_at or 0.0 for host in state.all_hosts)


def wait_until(state: RunState, at: float) -> RunState:
    """Return the state at ``at``. The clock ticks often enough that the launcher does not count as suspended."""
    while state.now < at:
        state = apply_event(state, Tick(at=min(at, state.now + 9.0)))
    return state


def carry_out(policy: Policy, state: RunState, kind: type[Action], *, sends: bool = True) -> tuple[RunState, list[str]]:
    """Carry out the actions of one kind; return the state after them, and their hosts."""
    actions = [
        action
        for action in decide_actions(policy, state)
        if isinstance(action, kind) and getattr(action, "sends", True) == sends
    ]
    return apply_events(state, *(ActionSent(at=state.now, action=action) for action in actions)), [
        action.host for action in actions
    ]


def ask_to_save(policy: Policy, state: RunState) -> RunState:
    """Return the state after both hosts were asked to save, and have signalled two ranks each."""
    state, hosts = carry_out(policy, state, Save)
    assert hosts == list(HOSTS)
    for at, host in enumerate(HOSTS):
        ranks = (2 * at, 2 * at + 1)
        state = apply_event(
            state, SaveHandlers(at=state.now, host=host, signal="USR1", ranks=ranks, others=(), sent=True)
        )
    return state


def end_ranks(state: RunState, *ranks: int) -> RunState:
    return apply_events(
        state, *(RankEnded(at=state.now, host=HOSTS[rank // 2], rank=rank, seconds=1.0) for rank in ranks)
    )


def test_ranks_are_asked_to_save_before_the_limit_and_stopped_at_it() -> None:
    state = start_run()
    began = get_start(state)
    assert carry_out(LIMIT, wait_until(state, began + 899.0), Save)[1] == []
    state = ask_to_save(LIMIT, wait_until(state, began + 900.0))
    assert carry_out(LIMIT, state, Save)[1] == []  # once
    assert carry_out(LIMIT, wait_until(state, began + 999.0), Stop)[1] == []
    state, stopped = carry_out(LIMIT, wait_until(state, began + 1000.0), Stop)
    assert stopped == list(HOSTS)
    assert outcome_of(state).exit_code == 124


def test_stop_follows_at_once_when_all_ranks_have_ended() -> None:
    state = ask_to_save(LIMIT, wait_until(start_run(), get_start(start_run()) + 900.0))
    state = end_ranks(state, 0, 1, 2)
    assert carry_out(LIMIT, state, Stop)[1] == []
    assert carry_out(LIMIT, end_ranks(state, 3), Stop)[1] == list(HOSTS)


def test_rank_that_ends_early_does_not_stop_the_others_that_still_save() -> None:
    state = ask_to_save(LIMIT, wait_until(start_run(), get_start(start_run()) + 900.0))
    state = apply_event(state, Exited(at=state.now, host="gpu01", code=75, signal=None))
    later = wait_until(state, state.now + 50.0)
    assert decide_actions(LIMIT, later) == ()
    assert carry_out(LIMIT, wait_until(state, state.now + 101.0), Stop)[1] == ["gpu02"]


@pytest.mark.parametrize("code", [0, 1, 75])
def test_time_limit_decides_the_exit_status_whatever_the_task_returns(code: int) -> None:
    state = ask_to_save(LIMIT, wait_until(start_run(), get_start(start_run()) + 900.0))
    state = end_ranks(state, 0, 1, 2, 3)
    state = apply_events(state, *(Exited(at=state.now, host=host, code=code, signal=None) for host in HOSTS))
    outcome = outcome_of(state)
    assert (outcome.exit_code, outcome.origin, outcome.first) == (124, "fanout", None)


def test_requested_stop_has_the_status_of_fanout_stop() -> None:
    state = start_run()
    state = apply_event(state, SaveRequested(at=state.now, signal="USR2", seconds=60.0, by="ann@pc"))
    state, hosts = carry_out(OPEN, state, Save)
    assert hosts == list(HOSTS)
    assert state.hosts["gpu01"].saving.request == Save(
        host="gpu01", signal="USR2", reason="stop-command", why="stopped by ann@pc with fanout stop --save"
    )
    assert carry_out(OPEN, wait_until(state, state.now + 61.0), Stop)[1] == list(HOSTS)
    state = apply_events(state, *(Exited(at=state.now, host=host, code=75, signal=None) for host in HOSTS))
    assert (outcome_of(state).exit_code, outcome_of(state).origin) == (143, "user")


def test_failure_before_the_planned_stop_stays_the_cause() -> None:
    state = wait_until(start_run(), get_start(start_run()) + 899.0)
    state = apply_event(state, Exited(at=state.now, host="gpu01", code=3, signal=None))
    state = wait_until(state, state.now + 2.0)
    assert carry_out(LIMIT, state, Save)[1] == []
    assert outcome_of(state).exit_code == 3


def test_lost_host_does_not_shorten_the_time_to_save() -> None:
    state = ask_to_save(LIMIT, wait_until(start_run(), get_start(start_run()) + 900.0))
    state = apply_event(state, HostLost(at=state.now, host="gpu01", why="no connection"))
    assert carry_out(LIMIT, wait_until(state, state.now + 50.0), Stop)[1] == []


def test_interrupt_while_ranks_save_stops_the_run_at_once() -> None:
    state = ask_to_save(LIMIT, wait_until(start_run(), get_start(start_run()) + 900.0))
    state = apply_event(state, Interrupted(at=state.now + 1.0, signal=2))
    assert carry_out(LIMIT, state, Stop)[1] == list(HOSTS)
    assert outcome_of(state).exit_code == 130


def test_early_exit_does_not_stop_ranks_that_save() -> None:
    policy = replace(LIMIT, on_early_exit="stop")
    state = ask_to_save(policy, wait_until(start_run(), get_start(start_run()) + 900.0))
    state = apply_event(state, Exited(at=state.now, host="gpu01", code=0, signal=None))
    assert carry_out(policy, state, Stop)[1] == []


def test_ranks_without_a_handler_train_until_the_limit() -> None:
    state, _ = carry_out(LIMIT, wait_until(start_run(), get_start(start_run()) + 900.0), Save)
    for host in HOSTS:
        state = apply_event(
            state, SaveHandlers(at=state.now, host=host, signal="USR1", ranks=(), others=(0, 1), sent=False)
        )
    assert carry_out(LIMIT, wait_until(state, state.now + 90.0), Stop)[1] == []


def test_handlers_are_looked_for_soon_after_the_first_step() -> None:
    state = start_run()
    assert carry_out(LIMIT, wait_until(state, state.now + 60.0), Save, sends=False)[1] == []
    state = apply_event(state, FirstStep(at=state.now, step=1))
    asked, hosts = carry_out(LIMIT, wait_until(state, state.now + 11.0), Save, sends=False)
    assert hosts == list(HOSTS)
    assert [host.saving.request for host in asked.all_hosts] == [None, None]
    assert carry_out(LIMIT, asked, Save, sends=False)[1] == []
    assert carry_out(OPEN, wait_until(state, state.now + 11.0), Save, sends=False)[1] == []  # no planned stop


def test_handlers_are_looked_for_although_the_log_reports_no_step() -> None:
    assert carry_out(LIMIT, wait_until(start_run(), start_run().now + 601.0), Save, sends=False)[1] == list(HOSTS)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"save_before": 600.0}, "needs --time-limit"),
        ({"save_before": 600.0, "time_limit": 600.0}, "is not shorter than --time-limit 10m"),
        ({"save_signal": "USR1", "time_limit": 300.0}, "--save-before 10m is not shorter than --time-limit 5m"),
        ({"save_signal": "KILL"}, "no program can handle SIGKILL"),
        ({"save_signal": "SIGSTOP"}, "no program can handle SIGSTOP"),
        ({"save_signal": "TERM"}, "the stop itself sends SIGTERM"),
        ({"save_signal": "SEGV"}, "crashed"),
        ({"save_signal": "10"}, "give the name"),
        ({"save_signal": "USER1"}, "must be one of USR1"),
    ],
)
def test_contradicting_settings_are_refused_with_a_command_that_works(flags: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        check_restart_settings(merge_settings(flags, {}, ()).settings)
    assert caught.value.hint


def test_signal_without_a_time_saves_ten_minutes_before_the_limit() -> None:
    settings = merge_settings({"save_signal": "sigusr2", "time_limit": 3600.0}, {}, ()).settings
    assert (settings.save_signal, settings.save_before) == ("USR2", 600.0)
    assert merge_settings({"save_signal": "USR2"}, {}, ()).settings.save_before is None
    assert parse_save_signal("") == ""
