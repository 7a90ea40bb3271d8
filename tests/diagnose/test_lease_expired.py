"""Hosts that end a run by themselves: the lease expired (and why no launcher reached them), or another program stopped it."""

from __future__ import annotations

import pytest

from fanout.diagnose.launcher_absence import LauncherAbsence
from fanout.model.events import Connected, Disconnected, Exited, HostLost, Tick
from tests.diagnose.kit import Run, people, verdict
from tests.histories import History

WHY = "no launcher for 300 s: the lease expired"


def end_by_lease(run: Run, *hosts: str, signal: int = 15) -> Run:
    for host in hosts:
        run.add_events(
            Exited(at=run.at, host=host, code=None, signal=signal, reason="lease-expired", why=WHY, silent_for=300.0)
        )
    return run


def part_hosts(run: Run, seconds: float, *hosts: str) -> Run:
    """Break the links of these hosts, let time pass for an awake launcher, and connect them again."""
    run.add_events(*(Disconnected(at=run.at, host=host, why="silent for 15 s", silent_for=15.0) for host in hosts))
    for _ in range(round(seconds)):
        run.pass_time(1.0)
    run.add_events(*(Connected(at=run.at, host=host, attempt=2, took=0.1, hello={}) for host in hosts))
    return run


@pytest.mark.parametrize("signal", [15, 9])
def test_a_launcher_that_slept_is_the_cause_and_no_host_is(signal: int) -> None:
    """A laptop was closed: its clock continues, but the launcher saw no event."""
    run = Run(hosts=3, each=1).pass_time(0.1).pass_time(1860.0)
    assert isinstance(run, Run)
    found = verdict(end_by_lease(part_hosts(run, 2, *run.hosts), *run.hosts, signal=signal), each=1)
    assert found.cause is not None
    assert (found.cause.signature, found.cause.host, found.confidence, found.rule) == (
        "unheard",
        None,
        "high",
        "unheard",
    )
    assert (
        found.sentence
        == "the launcher was away for 31 min (stopped, killed, or its machine slept), longer than the lease of the hosts"
    )
    assert found.evidence == ("gpu[01-03] had no contact with the launcher for 5 min (the lease) and ended the run",)
    assert found.advice == (
        "run fanout on a machine that does not sleep (in tmux on a lab machine), or extend the lease: --lease TIME (it was 5m)",
    )
    assert found.silent == ()


def test_a_launcher_that_was_killed_is_reported_by_the_next_that_takes_the_run_over() -> None:
    """Its record has no ticks and any pauses; then there was no launcher, and then another one."""
    run = Run(hosts=3, each=1)
    run.events = [event for event in run.events if not isinstance(event, Tick)]
    run.at += 700.0
    run.add_output("gpu01", b"step 2\n")
    alone = verdict(end_by_lease(copy(run), *run.hosts), each=1)
    assert alone.sentence == "the launcher could not reach the hosts for longer than the lease"
    run.pass_time(2700.0)
    found = verdict(end_by_lease(run, *run.hosts), each=1)
    assert found.sentence.startswith("the launcher was away for 45 min (stopped, killed, or its machine slept)")


def copy(run: Run) -> Run:
    other = Run(hosts=len(run.hosts), each=run.each)
    other.events, other.at = list(run.events), run.at
    return other


def test_a_launcher_whose_network_was_down_is_the_cause_too() -> None:
    """This holds also if one of the hosts did not come back at all."""
    run = Run(hosts=3, each=1)
    run.add_events(Disconnected(at=run.at, host="gpu03", why="silent for 15 s", silent_for=15.0))
    part_hosts(run, 320, "gpu01", "gpu02")
    end_by_lease(run, "gpu01", "gpu02").add_events(HostLost(at=run.at, host="gpu03", why="not heard of for 370 s"))
    found = verdict(run, each=1)
    assert found.sentence == "the launcher could not reach the hosts for longer than the lease"
    assert found.confidence == "high"
    assert found.evidence[1] == "the launcher's connection to gpu01 was down for 5 min 20 s"
    assert "(Wi-Fi, VPN, a jump host)" in found.advice[0]


def test_one_unreachable_host_is_named() -> None:
    """The others lost their peer when it ended its part; that is why they failed."""
    run = part_hosts(Run(hosts=3, each=1), 310, "gpu02")
    run.victims(0, 2, peer="10.0.0.2")
    run.torchrun("gpu01", (0, 1)).torchrun("gpu03", (2, 1))
    found = verdict(end_by_lease(run, "gpu02"), each=1)
    assert found.cause is not None
    assert (found.cause.signature, found.cause.host, found.cause.hosts) == ("unheard", "gpu02", ("gpu02",))
    assert found.confidence == "high"
    assert people(found.victims) == [("gpu01", 0), ("gpu03", 2)]
    assert found.advice == (
        "check the network between this machine and gpu02, or extend the lease: --lease TIME (it was 5m)",
    )


def test_an_error_of_a_rank_is_stronger_evidence_than_a_lease() -> None:
    """A rank that failed while the launcher slept is the cause: no launcher could end the others."""
    run = Run(hosts=3, each=1).pass_time(0.1).pass_time(1860.0)
    assert isinstance(run, Run)
    run.raises(1, "ValueError: no such token").torchrun("gpu02", (1, 1))
    found = verdict(end_by_lease(run, "gpu01", "gpu03"), each=1)
    assert found.cause is not None
    assert (found.cause.host, found.cause.rank, found.rule) == ("gpu02", 1, "first")
    run = Run(hosts=2, each=1).pass_time(0.1).pass_time(1860.0)
    assert isinstance(run, Run)
    run.raises(1, "ValueError: no such token")
    found = verdict(end_by_lease(run, "gpu01", "gpu02"), each=1)
    assert found.cause is not None
    assert (found.cause.host, found.cause.rank, found.rule) == ("gpu02", 1, "first")


def test_a_single_host_does_not_show_whose_network_failed() -> None:
    run = part_hosts(Run(hosts=1, each=2), 400, "gpu01")
    found = verdict(end_by_lease(run, "gpu01"))
    assert found.sentence == "the launcher could not reach the host for longer than the lease"


@pytest.mark.parametrize("why", ["the keeper received SIGTERM", "the keeper on the host died without a record"])
def test_a_host_that_was_ended_from_outside_is_the_cause(why: str) -> None:
    """A shutdown, an administrator or systemd ended it: its reason is as good as an error."""
    run = Run(hosts=3, each=1)
    signal = 15 if "SIGTERM" in why else None
    run.add_events(Exited(at=run.at, host="gpu02", code=None, signal=signal, why=why)).pass_time(3.0)
    run.stop_hosts("gpu02 failed", "gpu01", "gpu03").end_hosts("gpu01", "gpu03", signal=15, code=None)
    found = verdict(run, each=1)
    assert (found.sentence, found.confidence) == (f"gpu02 ended: {why}", "high")
    assert found.advice[0].startswith("on gpu02: `last -x | head`")
    assert found.silent == ()


def test_launcher_that_the_keeper_ended_is_not_stopped_from_outside() -> None:
    """--background end: the SIGTERM in the log is the keeper's own."""
    run = Run(hosts=2, each=1).pass_time(1.0)
    why = "train.sh returned while torchrun (pid 7) ran; the keeper ended it (--background end)"
    for host in run.hosts:
        run.add_events(Exited(at=run.at, host=host, code=0, signal=None, reason="background-ended", why=why))
    run.pass_time(0.5).add_output("gpu01", b"Terminated\n").pass_time(1.0)
    found = verdict(run, each=1)
    assert found.cause is not None
    assert (found.cause.signature, found.cause.hosts, found.confidence) == (
        "background-ended",
        ("gpu01", "gpu02"),
        "high",
    )
    assert "Terminated" not in found.sentence


@pytest.mark.parametrize("launcher_died", [True, False])
def test_absence_of_a_killed_launcher_is_found_in_the_record(launcher_died: bool) -> None:
    """The record has no ticks. A connection that broke while the launcher ran is no absence."""
    run, absence = History("a").connect_hosts().start_hosts(), LauncherAbsence()
    end = Disconnected(at=run.at + 40.0, host="a", why="closed", launcher_died=launcher_died)
    for event in (*run.events, end):
        if not isinstance(event, Tick):
            absence.add_event(event)
    assert (absence.seconds >= 40.0) == launcher_died
    assert absence.seconds == 0 or launcher_died
