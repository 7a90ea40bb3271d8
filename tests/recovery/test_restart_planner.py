"""Restart planner: hosts that are away take part again once they answer, and hosts with a fault of their own never do."""

from __future__ import annotations

from dataclasses import replace

from fanout.recovery.restart_planner import RestartPlanner
from tests.recovery.attempts import HOSTS, OPTIONS, build_attempt, expect_end, expect_restart

LOST = build_attempt(signature="lost", confidence="medium", host="gpu02", lost=("gpu02",))
KILLED = build_attempt(signature="signal", code=-9)


def build_planner(*spares: str) -> RestartPlanner:
    return RestartPlanner(OPTIONS, HOSTS, spares)


def test_spare_that_was_unreachable_takes_part_once_it_answers() -> None:
    planner = build_planner("gpu08", "gpu09")
    planner.record_end(LOST)
    first = expect_restart(planner.decide_after_end(()))
    assert first.roster.replaced == (("gpu02", "gpu08"),)
    hosts = first.roster.hosts
    second = planner.decide_after_refusal(1, hosts, out=(), away=("gpu08",), answering=(), used=1)
    assert expect_restart(second).roster.replaced == (("gpu08", "gpu09"),)
    planner.record_end(replace(LOST, number=1, hosts=("gpu01", "gpu09", "gpu03", "gpu04"), lost=("gpu03",)))
    assert planner.list_away() == ("gpu02", "gpu08")
    third = expect_restart(planner.decide_after_end(("gpu08",)))
    assert third.roster.replaced == (("gpu03", "gpu08"),)


def test_host_that_does_not_answer_is_not_chosen() -> None:
    planner = build_planner("gpu09")
    planner.record_end(LOST)
    hosts = expect_restart(planner.decide_after_end(())).roster.hosts
    planner.record_end(replace(LOST, number=1, hosts=hosts, lost=("gpu01",), host="gpu01"))
    expect_end(planner.decide_after_end(()), "no-hosts")


def test_hosts_that_are_away_are_wanted_only_if_a_host_is_missing() -> None:
    planner = build_planner("gpu08", "gpu09")
    planner.record_end(LOST)
    hosts = expect_restart(planner.decide_after_end(())).roster.hosts
    planner.record_end(replace(KILLED, number=1, hosts=hosts, steps=None))
    assert planner.list_wanted() == ()
    expect_restart(planner.decide_after_end(()))
    planner.record_end(replace(LOST, number=2, hosts=hosts, steps=None, lost=("gpu01", "gpu03"), host="gpu01"))
    assert planner.list_wanted() == ("gpu02",)
    restart = expect_restart(planner.decide_after_end(("gpu02",)))
    assert restart.roster.replaced == (("gpu01", "gpu09"), ("gpu03", "gpu02"))


def test_host_that_the_check_refused_for_a_fault_never_takes_part_again() -> None:
    planner = build_planner("gpu08", "gpu09")
    planner.record_end(LOST)
    hosts = expect_restart(planner.decide_after_end(())).roster.hosts
    again = planner.decide_after_refusal(1, hosts, out=("gpu08",), away=(), answering=("gpu08",), used=1)
    assert expect_restart(again).roster.replaced == (("gpu08", "gpu09"),)
    assert "gpu08" not in planner.list_away()


def test_lost_host_that_answers_after_its_fence_replaces_a_spare_that_is_off() -> None:
    planner = build_planner("gpu09")
    planner.record_end(LOST)
    hosts = expect_restart(planner.decide_after_end(())).roster.hosts
    refused = planner.decide_after_refusal(1, hosts, out=(), away=("gpu09",), answering=("gpu02",), used=1)
    assert expect_restart(refused).roster.replaced == (("gpu09", "gpu02"),)


def test_start_that_no_host_explains_ends_the_run() -> None:
    planner = build_planner("gpu09")
    planner.record_end(KILLED)
    expect_restart(planner.decide_after_end(()))
    expect_end(planner.decide_after_refusal(1, HOSTS, out=(), away=(), answering=(), used=1), "no-hosts")
