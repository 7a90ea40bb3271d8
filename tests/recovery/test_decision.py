"""Decisions after an attempt: each class of failure, and the hosts of the next attempt."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fanout.recovery.attempt import Fleet, RecoveryOptions
from fanout.recovery.attempt_report import build_restart_reason
from fanout.recovery.decision import advise_restarts
from fanout.recovery.failure_classes import FAILURE_CLASSES
from fanout.recovery.roster import choose_hosts
from tests.recovery.attempts import (
    HOSTS,
    NO_SPARE,
    OPTIONS,
    build_attempt,
    decide_for,
    expect_end,
    expect_restart,
)


def test_success_and_a_requested_stop_end_the_run() -> None:
    expect_end(decide_for(build_attempt(succeeded=True)), "succeeded")
    expect_end(decide_for(build_attempt(requested="interrupted")), "requested")
    expect_end(decide_for(build_attempt(requested="time-limit")), "requested")


def test_killed_rank_is_restarted_on_the_same_hosts() -> None:
    restart = expect_restart(decide_for(build_attempt(signature="signal", host="gpu03", code=-9)))
    assert restart.roster.hosts == HOSTS
    assert restart.used == 1


def test_exception_before_the_first_step_ends_the_run() -> None:
    early = build_attempt(steps=None, ended_at=20.0, host="gpu01")
    expect_end(decide_for(early), "before-first-step")
    expect_restart(decide_for(replace(early, ended_at=3600.0)))  # an attempt of an hour without readable steps


def test_same_exception_at_the_same_step_ends_the_run() -> None:
    first = build_attempt(steps=(1, 30), place="ValueError train.py:80")
    expect_restart(decide_for(first))
    second = build_attempt(1, steps=(21, 30), place="ValueError train.py:80")
    assert "step 30" in expect_end(decide_for(first, second), "same-place").why


def test_start_from_the_first_step_after_progress_ends_the_run() -> None:
    history = build_attempt(steps=(1, 150), place="a"), build_attempt(1, (1, 140), place="b")
    assert "does not resume" in expect_end(decide_for(*history), "does-not-resume").why
    allowed = replace(OPTIONS, allow_from_scratch=True)
    network = tuple(replace(each, signature="nccl-system-error") for each in history)
    expect_restart(decide_for(*network, options=allowed))


def test_one_start_from_the_first_step_without_a_checkpoint_is_allowed() -> None:
    history = [build_attempt(number, (1, 30), signature="network") for number in range(3)]
    expect_restart(decide_for(*history[:2]))
    expect_end(decide_for(*history), "does-not-resume")


def test_missing_module_on_one_host_replaces_it_and_on_all_hosts_ends_the_run() -> None:
    alone = build_attempt(steps=None, signature="no-module", host="gpu03", accused=("gpu03",))
    assert expect_restart(decide_for(alone)).roster.hosts == ("gpu01", "gpu02", "gpu09", "gpu04")
    expect_end(decide_for(replace(alone, accused=HOSTS)), "not-restartable")
    expect_end(decide_for(alone, fleet=NO_SPARE), "no-hosts")


def test_lost_host_is_replaced_by_the_spare_at_the_same_node_rank() -> None:
    lost = build_attempt(signature="lost", confidence="medium", host="gpu01", lost=("gpu01",))
    restart = expect_restart(decide_for(lost))
    assert restart.roster.hosts[0] == "gpu09"
    assert restart.roster.replaced == (("gpu01", "gpu09"),)
    assert restart.wait_seconds == 0.0
    expect_end(decide_for(lost, fleet=NO_SPARE), "no-hosts")


def test_fewer_hosts_continue_only_if_the_user_allows_it() -> None:
    lost = build_attempt(signature="lost", confidence="medium", host="gpu02", lost=("gpu02",))
    fewer = replace(OPTIONS, min_hosts=3)
    assert expect_restart(decide_for(lost, options=fewer, fleet=NO_SPARE)).roster.hosts == ("gpu01", "gpu03", "gpu04")
    expect_end(decide_for(lost, options=replace(OPTIONS, min_hosts=4), fleet=NO_SPARE), "no-hosts")


def test_host_that_returned_joins_a_smaller_roster() -> None:
    small = build_attempt(1, (21, 60), hosts=("gpu01", "gpu03", "gpu04"), signature="signal", code=-9)
    first = build_attempt(signature="lost", host="gpu02", lost=("gpu02",), confidence="medium")
    restart = expect_restart(
        decide_for(first, small, options=replace(OPTIONS, min_hosts=3), fleet=Fleet(returned=("gpu02",)))
    )
    assert set(restart.roster.hosts) == set(HOSTS)
    assert restart.roster.added == ("gpu02",)


def test_ended_container_restarts_in_place_and_a_second_one_replaces_the_host() -> None:
    first = build_attempt(host="gpu01", signature="container-ended", confidence="medium")
    assert expect_restart(decide_for(first)).roster.hosts == HOSTS
    second = replace(first, number=1)
    assert expect_restart(decide_for(first, second)).roster.replaced == (("gpu01", "gpu09"),)


def test_reboot_restarts_in_place_and_a_second_one_replaces_the_host() -> None:
    first = build_attempt(host="gpu01", rebooted=("gpu01",), signature="lost")
    assert expect_restart(decide_for(first)).roster.hosts == HOSTS
    second = replace(build_attempt(1, (41, 90)), host="gpu01", rebooted=("gpu01",), signature="lost")
    assert expect_restart(decide_for(first, second)).roster.replaced == (("gpu01", "gpu09"),)


def test_broken_gpu_replaces_the_host_and_without_a_spare_stays_if_it_passes_the_check() -> None:
    broken = build_attempt(signature="gpu-lost", host="gpu02")
    assert expect_restart(decide_for(broken)).roster.replaced == (("gpu02", "gpu09"),)
    assert expect_restart(decide_for(broken, fleet=NO_SPARE)).roster.hosts == HOSTS


def test_illegal_access_restarts_once_in_place() -> None:
    first = build_attempt(signature="cuda-illegal-access", host="gpu02", place="x")
    assert expect_restart(decide_for(first)).roster.hosts == HOSTS
    again = build_attempt(1, (1, 50), signature="cuda-illegal-access", host="gpu02", place="x")
    expect_end(decide_for(first, again), "same-place")


def test_second_hang_of_one_host_replaces_it() -> None:
    first = build_attempt(signature="apart", host="gpu03", confidence="medium")
    assert expect_restart(decide_for(first)).roster.hosts == HOSTS
    assert expect_restart(decide_for(first, replace(first, number=1))).roster.replaced == (("gpu03", "gpu09"),)


def test_second_hang_of_one_host_after_progress_replaces_no_host() -> None:
    first = build_attempt(signature="apart", host="gpu03", confidence="medium")
    later = build_attempt(1, (41, 90), signature="apart", host="gpu03", confidence="medium")
    assert expect_restart(decide_for(first, later)).roster.hosts == HOSTS


def test_task_that_another_person_ended_is_not_restarted() -> None:
    for code in (-15, 143, -2):
        expect_end(decide_for(build_attempt(signature="signal", code=code)), "not-restartable")
    expect_restart(decide_for(build_attempt(signature="signal", code=-9)))


def test_usage_error_ends_the_run() -> None:
    for code in (2, 17, 93, 126, 127):
        expect_end(decide_for(build_attempt(signature="exit", code=code)), "not-restartable")


def test_stale_file_in_user_code_is_a_fault_of_the_file_server() -> None:
    stale = build_attempt(steps=None, ended_at=20.0, text="OSError: [Errno 116] Stale file handle: '/data/x'")
    assert expect_restart(decide_for(stale)).failure_class == "file-server"


def test_host_that_cannot_be_ended_is_replaced() -> None:
    stuck = build_attempt(signature="network", unclean=("gpu04",))
    assert expect_restart(decide_for(stuck)).roster.replaced == (("gpu04", "gpu09"),)
    expect_end(decide_for(stuck, fleet=NO_SPARE), "no-hosts")


def test_uncertain_diagnosis_never_ends_the_run_at_once() -> None:
    for signature in ("mismatch", "no-module", ""):
        guess = build_attempt(signature=signature, confidence="low", host="gpu01")
        assert expect_restart(decide_for(guess)).roster.hosts == HOSTS


def test_unreadable_checkpoint_restarts_once_and_the_end_names_it_and_the_one_before() -> None:
    first = build_attempt(
        steps=None,
        ended_at=20.0,
        signature="checkpoint-unreadable",
        checkpoint="/ck/step-40",
        predecessor="/ck/step-20",
    )
    restart = expect_restart(decide_for(first))
    assert build_restart_reason(first, restart.failure_class) == "checkpoint-unreadable /ck/step-40 /ck/step-20"
    end = expect_end(decide_for(first, replace(first, number=1)), "repeated")
    assert end.why.endswith(": /ck/step-40 is unreadable; the checkpoint before it is /ck/step-20")


def test_two_lost_hosts_and_one_spare_end_the_run_or_continue_with_fewer() -> None:
    lost = build_attempt(signature="lost", host="gpu02", lost=("gpu02", "gpu03"), confidence="medium")
    assert "gpu02, gpu03" in expect_end(decide_for(lost), "no-hosts").why
    fewer = expect_restart(decide_for(lost, options=replace(OPTIONS, min_hosts=2)))
    assert fewer.roster.hosts == ("gpu01", "gpu09", "gpu04")
    assert fewer.roster.dropped == ("gpu03",)


def test_report_without_restarts_names_what_three_restarts_would_have_done() -> None:
    off = RecoveryOptions()
    failed = build_attempt(signature="signal", code=-9)
    expect_end(decide_for(failed, options=off), "off")
    expect_restart(advise_restarts(off, (failed,), NO_SPARE))
    expect_end(advise_restarts(off, (build_attempt(signature="mismatch"),), NO_SPARE), "not-restartable")


@given(st.permutations(HOSTS), st.sets(st.sampled_from(HOSTS)), st.integers(0, 4))
def test_spare_takes_the_node_rank_of_the_host_that_it_replaces(hosts: list[str], removed: set[str], many: int) -> None:
    fleet = Fleet(spares=tuple(f"spare{number}" for number in range(many)))
    roster = choose_hosts(hosts, removed, fleet, size=len(hosts))
    if many < len(removed):
        assert roster is None
        return
    assert roster is not None
    for before, after in zip(hosts, roster.hosts, strict=True):
        assert (before == after) == (before not in removed)


def test_signature_is_in_one_class() -> None:
    names = [signature for row in FAILURE_CLASSES for signature in sorted(row.signatures)]
    assert len(names) == len(set(names))


def test_xid_of_broken_hardware_replaces_the_host_and_an_xid_of_a_program_does_not() -> None:
    broken = build_attempt(
        signature="xid", host="gpu02", text="NVRM: Xid (PCI:0000:0f:00): 79, GPU has fallen off the bus."
    )
    assert expect_restart(decide_for(broken)).roster.replaced == (("gpu02", "gpu09"),)
    named = replace(broken, text="", sentence="rank 3 on gpu02 had Xid 79 from the driver of GPU 0000:0f:00")
    assert expect_restart(decide_for(named)).roster.replaced == (("gpu02", "gpu09"),)
    program = replace(broken, text="NVRM: Xid (PCI:0000:0f:00): 31, pid=79, name=python3, Ch 00000079")
    assert expect_restart(decide_for(program)).roster.hosts == HOSTS


def test_xid_154_replaces_the_host_only_if_the_gpu_needs_a_reset_or_a_reboot() -> None:
    line = "NVRM: Xid (PCI:0000:0f:00): 154, GPU recovery action changed from 0x0 (None) to "
    for action in ("0x1 (GPU Reset Required)", "0x2 (Node Reboot Required)", "0x4 (Drain and Reset)"):
        broken = build_attempt(signature="xid", host="gpu02", text=line + action)
        assert expect_restart(decide_for(broken)).roster.replaced == (("gpu02", "gpu09"),)
    healthy = build_attempt(signature="xid", host="gpu02", text=f"{line}0x0 (None)")
    assert expect_restart(decide_for(healthy)).roster.hosts == HOSTS


def test_host_that_the_network_test_found_cut_off_is_replaced() -> None:
    apart = build_attempt(signature="cut-off", confidence="medium", host="gpu03", code=1)
    assert expect_restart(decide_for(apart)).roster.replaced == (("gpu03", "gpu09"),)


def test_signal_that_asks_a_process_to_stop_ends_the_run() -> None:
    for code in (-15, 143, -2, 129):
        stopped = build_attempt(signature="signal" if code < 0 else "exit", host="gpu02", code=code)
        assert expect_end(decide_for(stopped), "not-restartable").failure_class == "ended-outside"
    rebooting = build_attempt(signature="signal", host="gpu02", code=-15, rebooted=("gpu02",))
    assert expect_restart(decide_for(rebooting)).failure_class == "rebooted"


def test_exit_status_that_asks_for_a_restart_is_not_counted() -> None:
    for signature in ("exit", "spawn-exited", "lightning-ended", "stated-error"):
        saved = build_attempt(signature=signature, host="gpu02", code=75, steps=None, ended_at=20.0)
        assert expect_restart(decide_for(saved)).used == 0
