"""Absent hosts: one that ended with 0 too early, one that was frozen, one that was rebooted."""

from __future__ import annotations

from dataclasses import replace

from fanout.model.events import Connected, Connecting, Disconnected, Exited
from tests.diagnose.kit import CLOSED, TIMED_OUT, Run, verdict

COLLECTIVE = (
    '  File "/opt/venv/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py", line 2806, in all_reduce',
    "    work.wait()",
)


def lose_peer(run: Run, rank: int, text: str) -> None:
    lines = (
        "Traceback (most recent call last):",
        '  File "/home/ann/proj/train.py", line 14, in step',
        "    dist.all_reduce(t)",
        *COLLECTIVE,
        text,
    )
    run.out(rank, *(f"[rank{rank}]: {line}" for line in lines))


def test_a_host_that_ends_with_0_before_the_others_is_named() -> None:
    run = Run()
    for step in range(1, 15):
        for rank in range(4):
            run.out(rank, f"[rank{rank}]: step {step}/60 loss 2.0")
        run.pass_time(0.2)
    for rank in (0, 1):
        run.out(rank, f"[rank{rank}]: step 15/60 loss 2.0")
        lose_peer(run, rank, CLOSED.format(peer="10.0.0.2"))
    run.end_hosts("gpu02", code=0)
    run.torchrun("gpu01", (0, 1), (1, 1))
    found = verdict(run)
    assert found.cause is not None
    assert (found.rule, found.confidence, found.cause.host, found.cause.ranks) == ("early", "medium", "gpu02", (2, 3))
    assert found.cause.says == "exited with 0 at step 14 while the others were in all_reduce (train.py:14)"
    assert not any("dmesg" in text for text in found.advice)


def test_the_advice_for_a_host_that_left_before_the_stop_is_not_dmesg_first() -> None:
    """Its ranks ended with 0, but its torchrun waited for the others until the launcher ended it."""
    run = Run(hosts=3, each=1)
    for rank in (0, 1):
        lose_peer(run, rank, CLOSED.format(peer="10.0.0.3"))
    run.torchrun("gpu01", (0, 1)).torchrun("gpu02", (1, 1))
    found = verdict(
        run.stop_hosts("gpu01 failed", "gpu03").pass_time(1.0).end_hosts("gpu03", code=None, signal=15), each=1
    )
    assert found.cause is not None
    assert (found.rule, found.confidence, found.cause.host) == ("blamed", "medium", "gpu03")
    assert found.cause.says == (
        "left the run at step 1 while the others were in all_reduce (train.py:14); its torchrun reported no failure"
    )
    assert found.advice[0].startswith("uneven data")


def test_an_error_of_its_own_comes_before_an_early_end() -> None:
    run = Run()
    run.raises(0, "ValueError: bad sample 7")
    run.end_hosts("gpu02", code=0)
    found = verdict(run.torchrun("gpu01", (0, 1), (1, -15)))
    assert found.cause is not None
    assert (found.rule, found.cause.rank) == ("first", 0)


def freeze_host(run: Run, host: str, seconds: float, *, boot: str = "one") -> Run:
    run.add_events(Disconnected(at=run.at + 15.0, host=host, why="silent for 15 s", silent_for=15.0))
    run.at += 30.0
    for rank in (0, 1):
        lose_peer(run, rank, TIMED_OUT)
    run.torchrun("gpu01", (0, 1), (1, 1))
    run.at += seconds - 30.0
    run.add_events(Connecting(at=run.at, host=host, attempt=2))
    run.add_events(Connected(at=run.at, host=host, attempt=2, took=0.1, hello={"boot_id": boot, "hostname": host}))
    return run


def add_boot_ids(run: Run) -> Run:
    run.events = [
        replace(e, hello={**e.hello, "boot_id": "one"}) if isinstance(e, Connected) else e for e in run.events
    ]
    return run


def test_a_host_that_was_frozen_when_the_others_timed_out_is_named() -> None:
    """The output after the thaw is late: it equals that of the others."""
    run = freeze_host(add_boot_ids(Run()), "gpu02", 60.0)
    for rank in (2, 3):
        lose_peer(run, rank, CLOSED.format(peer="10.0.0.1"))
    run.stop_hosts("gpu01 failed", "gpu02").pass_time(1.0)
    run.torchrun("gpu02", (2, 1), (3, 1))
    found = verdict(run)
    assert found.cause is not None
    assert (found.rule, found.confidence, found.cause.host) == ("cut-off", "medium", "gpu02")
    assert found.evidence[0] == (
        "gpu02: connection lost (silent for 15 s) before any rank failed; it reconnected after 60 s"
    )


def test_a_short_break_of_a_link_has_no_finding() -> None:
    run = add_boot_ids(Run())
    run.add_events(
        Disconnected(at=run.at, host="gpu02", why="connection reset"), Connecting(at=run.at, host="gpu02", attempt=2)
    )
    run.add_events(Connected(at=run.at + 1.0, host="gpu02", attempt=2, took=0.1, hello={"boot_id": "one"}))
    run.pass_time(2.0)
    for rank in range(4):
        lose_peer(run, rank, TIMED_OUT)
    found = verdict(run.torchrun("gpu01", (0, 1), (1, 1)).torchrun("gpu02", (2, 1), (3, 1)))
    assert found.rule == "network"


def test_all_hosts_silent_at_once_are_not_taken_for_an_isolated_host() -> None:
    run = add_boot_ids(Run())
    for host in run.hosts:
        run.add_events(Disconnected(at=run.at, host=host, why="silent for 15 s", silent_for=15.0))
    run.pass_time(20.0)
    for host in run.hosts:
        run.add_events(Connecting(at=run.at, host=host, attempt=2))
        run.add_events(Connected(at=run.at, host=host, attempt=2, took=0.1, hello={"boot_id": "one"}))
    for rank in range(4):
        lose_peer(run, rank, TIMED_OUT)
    found = verdict(run.torchrun("gpu01", (0, 1), (1, 1)).torchrun("gpu02", (2, 1), (3, 1)))
    assert found.rule == "network"


def test_a_host_that_was_rebooted_is_recognised_by_its_boot_id() -> None:
    """Its keeper died without a record: that is a failure of its own, even if all hosts were stopped meanwhile."""
    run = add_boot_ids(Run())
    run.stop_hosts("gpu01 failed", "gpu02")
    run = freeze_host(run, "gpu02", 90.0, boot="two")
    run.add_events(
        Exited(at=run.at, host="gpu02", code=None, signal=None, why="the keeper on the host died without a record")
    )
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.host, found.confidence) == ("gpu02", "high")
    assert found.cause.says.startswith("was rebooted during the run")
    assert not any("loader" in text for text in found.advice)
