"""Outcome of a run: the status is that of the first cause, never of a victim."""

from __future__ import annotations

import pytest

from fanout.model import outcome
from fanout.model.actions import Go
from fanout.model.events import (
    ActionSent,
    CleanedUp,
    ConnectFailed,
    Exited,
    HostLost,
    Interrupted,
    Leftover,
    OutsideCalled,
    Prepared,
    Refused,
    StopRequested,
)
from fanout.model.outcome import RunOutcome
from tests.histories import TYPICAL, History


def build_running(*hosts: str) -> History:
    return History(*hosts).connect_hosts().start_hosts().pass_time(1.0)


def compute_outcome(history: History) -> RunOutcome:
    return outcome.outcome_of(history.play_events())


@pytest.mark.parametrize(
    ("code", "signal", "status"),
    [*((code, None, code) for code in (0, 1, 3, 126, 127, 255)), (None, 9, 137), (None, 11, 139), (None, 15, 143)],
)
def test_the_status_is_the_scripts_own(code: int | None, signal: int | None, status: int) -> None:
    result = compute_outcome(build_running("a").end_hosts("a", code=code, signal=signal).release_hosts("a"))
    assert (result.exit_code, result.origin) == (status, "script")
    assert result.first == (None if status == 0 else "a")
    assert result.is_success == (status == 0)
    assert result.is_clean


@pytest.mark.parametrize("code", [0, 3])
def test_a_signal_after_the_end_of_all_hosts_does_not_change_the_end(code: int) -> None:
    history = build_running("a", "b").end_hosts("a", "b", code=code).pass_time(0.5)
    history.add_events(Interrupted(at=history.at, signal=2))
    history.pass_time(0.5).release_hosts("a", "b")
    result = compute_outcome(history)
    assert (result.exit_code, result.origin, result.stopped_why) == (code, "script", "")


def test_a_signal_that_leaves_a_host_unverified_is_the_status() -> None:
    history = build_running("a", "b").end_hosts("a", "b").pass_time(0.5)
    history.add_events(Interrupted(at=history.at, signal=2), Interrupted(at=history.at, signal=2))
    history.release_hosts("a").add_events(HostLost(at=history.at, host="b", why="you left it unverified"))
    assert compute_outcome(history).exit_code == 130


@pytest.mark.parametrize(("name", "why"), [("good", ""), ("failed", ""), ("interrupted", "by SIGINT")])
def test_outcome_states_why_a_run_was_stopped(name: str, why: str) -> None:
    assert compute_outcome(TYPICAL[name]()).stopped_why == why


def test_the_first_failure_counts_and_not_the_most_visible() -> None:
    result = compute_outcome(TYPICAL["failed"]())
    assert (result.exit_code, result.first) == (3, "gpu02")
    assert [host.verdict for host in result.hosts] == ["stopped", "failed", "stopped"]
    assert result.headline == "gpu02: exit 3"


@pytest.mark.parametrize(("number", "status"), [(2, 130), (15, 143), (1, 129), (13, 141)])
def test_the_users_signal_is_the_status_whatever_the_hosts_report(number: int, status: int) -> None:
    history = (
        build_running("a", "b")
        .add_events(Interrupted(at=0.0, signal=number))
        .stop_hosts("interrupted", "a", "b", reason="interrupted")
    )
    result = compute_outcome(history.end_hosts("a", "b", code=None, signal=15).release_hosts("a", "b"))
    assert (result.exit_code, result.origin, result.first) == (status, "user", None)


def test_the_time_limit_is_124() -> None:
    history = build_running("a", "b").stop_hosts("time limit", "a", "b", reason="time-limit").pass_time(1.0)
    history.end_hosts("a", "b", code=None, signal=15).release_hosts("a", "b")
    assert (compute_outcome(history).exit_code, compute_outcome(history).origin) == (124, "fanout")


def test_the_time_limit_is_124_if_the_script_saves_and_exits_0() -> None:
    """As with timeout(1), a run that was stopped did not end by itself."""
    history = (
        build_running("a")
        .pass_time(5.0)
        .stop_hosts("time limit", "a", reason="time-limit")
        .pass_time(1.0)
        .end_hosts("a", code=0)
        .release_hosts("a")
    )
    assert compute_outcome(history).exit_code == 124


def test_a_failure_before_the_time_limit_keeps_its_status() -> None:
    history = (
        build_running("a", "b")
        .end_hosts("a", code=3)
        .pass_time(1.0)
        .stop_hosts("time limit", "b", reason="time-limit")
        .pass_time(1.0)
        .end_hosts("b", code=0)
    )
    assert compute_outcome(history.release_hosts("a", "b")).exit_code == 3


def test_an_unreachable_host_is_255() -> None:
    result = compute_outcome(TYPICAL["unreachable"]())
    assert (result.exit_code, result.origin, result.first) == (255, "ssh", "gpu02")
    assert "no route to 10.0.0.2:22" in result.headline
    assert result.hosts[1].hint == "ssh gpu02 true"


def test_a_host_that_refuses_is_125_and_nothing_is_left_there() -> None:
    history = History("a").connect_hosts()
    result = compute_outcome(
        history.add_events(Refused(at=history.at, host="a", kind="busy", message="busy: run X", hint="wait"))
    )
    assert (result.exit_code, result.origin, result.hosts[0].left) == (125, "fanout", 0)


def test_a_lost_host_is_255_and_what_is_left_there_is_not_known() -> None:
    history = build_running("a", "b").add_events(HostLost(at=2e9, host="b", why="no connection for 370 s"))
    result = compute_outcome(history.end_hosts("a").release_hosts("a"))
    assert (result.exit_code, result.first, result.hosts[1].left) == (255, "b", None)
    assert not result.is_clean


def test_a_host_that_is_lost_after_a_good_exit_is_not_success() -> None:
    """It is not verified that nothing of the run is left there, nor that all of its log is here."""
    history = (
        build_running("a")
        .end_hosts("a")
        .pass_time(1)
        .add_events(HostLost(at=2e9, host="a", why="no connection for 370 s"))
    )
    assert (compute_outcome(history).exit_code, compute_outcome(history).origin) == (255, "ssh")


def test_an_unknown_end_is_never_success() -> None:
    history = (
        build_running("a")
        .add_events(Exited(at=2e9, host="a", code=None, signal=None, why="the keeper died"))
        .release_hosts("a")
    )
    assert (compute_outcome(history).exit_code, compute_outcome(history).hosts[0].verdict) == (255, "lost")


def test_leftovers_are_counted() -> None:
    stuck = Leftover(pid=9, state="D", wchan="nfs_wait", command="python train.py")
    result = compute_outcome(build_running("a").end_hosts("a").release_hosts("a", left=(stuck,)))
    assert result.hosts[0].left == 1
    assert not result.is_clean


def test_victims_of_a_stop_without_a_guilty_host_are_not_the_cause() -> None:
    """One host never started: the launcher stopped the others, and their SIGTERM explains nothing."""
    history = build_running("a", "b").stop_hosts("b did not start within 120 s", "a", "b").pass_time(1)
    result = compute_outcome(history.end_hosts("a", "b", code=None, signal=15).release_hosts("a", "b"))
    assert (result.exit_code, result.origin, result.first) == (125, "fanout", None)
    assert "did not start" in result.headline


def test_a_run_that_never_started_is_no_success() -> None:
    """A host that rolled back by itself (no contact for a minute) ended without an exit."""
    history = (
        History("a")
        .connect_hosts()
        .add_events(Prepared(at=2e9, host="a", pid=1), CleanedUp(at=2e9, host="a", killed=0))
    )
    assert compute_outcome(history.release_hosts("a")).exit_code == 125


def test_memory_and_reasons_are_reported() -> None:
    history = build_running("a").add_events(Exited(at=2e9, host="a", code=None, signal=9, oom=True, why="killed"))
    assert (
        compute_outcome(history.release_hosts("a")).hosts[0].reason
        == "killed by SIGKILL (out of memory: the kernel killed a process of this run): killed"
    )


def test_a_failed_start_has_the_shells_status() -> None:
    history = History("a").connect_hosts()
    history.add_events(Prepared(at=history.at, host="a", pid=1), ActionSent(at=history.at, action=Go(host="a")))
    history.add_events(Exited(at=history.at, host="a", code=127, signal=None, why="train.sh: not found"))
    assert compute_outcome(history.release_hosts("a")).exit_code == 127


def test_a_host_without_a_connection_in_time_is_unreachable() -> None:
    history = History("a").connect_hosts()
    history.add_events(
        ConnectFailed(at=history.at, host="a", kind="AgentRefused", message="no python3 there", hint="install it")
    )
    assert compute_outcome(history).hosts[0].verdict == "unreached"


@pytest.mark.parametrize(("number", "name"), [(15, "SIGTERM"), (9, "SIGKILL"), (40, "signal 40")])
def test_signals_have_linux_names(number: int, name: str) -> None:
    assert outcome.signal_name(number) == name


def test_exit_0_of_a_script_that_its_host_stopped_is_no_success() -> None:
    """The lease expired, the script saved its state and exited 0: it did not train to its end."""
    lease = "no launcher for 5 s: the lease expired"
    history = build_running("a").add_events(Exited(at=2e9, host="a", code=0, signal=None, why=lease)).release_hosts("a")
    outcome = compute_outcome(history)
    assert (outcome.exit_code, outcome.first, outcome.hosts[0].verdict) == (255, "a", "failed")
    assert lease in outcome.headline


def test_outcome_names_the_user_whose_signal_came_first() -> None:
    run = build_running("a").add_events(Interrupted(at=1e9, signal=15, by="ann@pc"), Interrupted(at=1e9, signal=2))
    run.stop_hosts("interrupted", "a", reason="interrupted").end_hosts("a", code=None, signal=15).release_hosts("a")
    result = compute_outcome(run)
    assert (result.exit_code, result.stopped_why) == (143, "by ann@pc with fanout stop")


def test_a_stop_that_only_the_hosts_received_names_its_user() -> None:
    run = build_running("a", "b").add_events(
        StopRequested(at=1e9, host="a", by="ann@pc"), StopRequested(at=1e9, host="b", by="bob@vm")
    )
    run.end_hosts("a", "b", code=None, signal=15).release_hosts("a", "b")
    result = compute_outcome(run)
    assert (result.exit_code, result.origin, result.stopped_why) == (143, "user", "by ann@pc with fanout stop")
    assert [host.verdict for host in result.hosts] == ["stopped", "stopped"]


def test_a_stop_on_the_hosts_after_a_failure_changes_no_cause() -> None:
    run = build_running("a", "b").end_hosts("a", code=3).pass_time(1.0)
    run.add_events(StopRequested(at=run.at, host="b", by="ann@pc"))
    result = compute_outcome(run.end_hosts("b", code=None, signal=15).release_hosts("a", "b"))
    assert (result.exit_code, result.origin, result.first) == (3, "script", "a")


def test_a_stop_request_without_a_user_is_ignored() -> None:
    """No keeper sends it, but a host may send anything."""
    run = build_running("a")
    run.add_events(StopRequested(at=run.at, host="a", by="")).end_hosts("a", code=3).release_hosts("a")
    assert compute_outcome(run).headline == "a: exit 3"


def test_the_echo_of_an_own_stop_command_is_no_stop_of_another_user() -> None:
    """A keeper repeats the request when the connection to this launcher returns."""
    run = build_running("a").stop_hosts("ann@pc stops it", "a", reason="stop-command")
    run.add_events(StopRequested(at=run.at, host="a", by="ann@pc"))
    assert run.play_events().interrupted_at is None


def test_a_signal_after_a_failure_changes_neither_the_status_nor_the_cause() -> None:
    """The user presses Ctrl-C during the grace of a run that had failed already."""
    history = build_running("a", "b").end_hosts("a", code=3).pass_time(1.0).stop_hosts("a failed", "b")
    history.add_events(Interrupted(at=history.at, signal=2))
    result = compute_outcome(history.end_hosts("b", code=None, signal=15).release_hosts("a", "b"))
    assert (result.exit_code, result.origin, result.first, result.headline) == (3, "script", "a", "a: exit 3")


def test_a_signal_after_the_time_limit_leaves_its_status() -> None:
    history = (
        build_running("a")
        .pass_time(5.0)
        .stop_hosts("time limit", "a", reason="time-limit")
        .pass_time(1.0)
        .add_events(Interrupted(at=2e9, signal=2))
    )
    assert compute_outcome(history.end_hosts("a", code=None, signal=15).release_hosts("a")).exit_code == 124


def test_a_failure_after_the_signal_is_its_victim() -> None:
    history = build_running("a", "b").pass_time(1.0)
    history.add_events(Interrupted(at=history.at, signal=2)).pass_time(1.0).end_hosts("a", code=1).stop_hosts(
        "interrupted", "b", reason="interrupted"
    )
    assert compute_outcome(history.end_hosts("b", code=None, signal=15).release_hosts("a", "b")).exit_code == 130


def test_torchrun_that_the_keeper_ended_is_a_failure_although_train_sh_exited_0() -> None:
    run = build_running("a", "b")
    why = "train.sh returned while torchrun (pid 7) ran; the keeper ended it (--background end)"
    run.add_events(Exited(at=run.at, host="a", code=0, signal=None, reason="background-ended", why=why))
    result = compute_outcome(run.pass_time(1.0).end_hosts("b", code=0).release_hosts("a", "b"))
    assert (result.exit_code, result.origin, result.first) == (125, "fanout", "a")
    assert "torchrun (pid 7)" in result.headline


def test_outside_calls_of_all_hosts_are_listed_once() -> None:
    run = build_running("a", "b")
    run.add_events(OutsideCalled(at=run.at, host="a", calls="ssh to h2, tmux")).add_events(
        OutsideCalled(at=run.at, host="b", calls="tmux")
    )
    result = compute_outcome(run.end_hosts("a", "b", code=0).release_hosts("a", "b"))
    assert result.is_success
    assert result.outside_calls == ("ssh to h2", "tmux")
