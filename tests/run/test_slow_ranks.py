"""Slow ranks are reported during the run: once, when the slowness lasts, and again to a later viewer if it still lasts."""

from __future__ import annotations

from fanout.run.slow_ranks import EVERY_SECONDS, SlowRankReporter
from tests.histories import History, play_events

HOSTS = ("gpu01", "gpu02", "gpu03")
WORDS = "slow: gpu03 reports 0.6 s per step, 3.0 times as long as the others (0.2 s)"


def add_steps(run: History, first: int, last: int, slow: float = 0.6) -> History:
    """Return one step a second; gpu03's takes ``slow`` seconds of it."""
    for step in range(first, last):
        run.pass_time(1.0)
        for host in HOSTS:
            run.add_output(host, f"step {step} step_time {slow if host == 'gpu03' else 0.2}\n".encode())
    return run


def test_a_slow_rank_is_reported_once_and_not_at_first() -> None:
    """Ten steps make a pace, two looks make it last."""
    messages: list[str] = []
    reporter = SlowRankReporter(messages.append)
    run = add_steps(History(*HOSTS).connect_hosts().start_hosts(), 1, 60)
    state = play_events(run.hosts, run.events, reporter)
    assert messages == [WORDS]
    assert reporter.slow_hosts() == {"gpu03": "3.0x"}
    assert reporter.list_step_times()[-1] == {"host": "gpu03", "rank": None, "seconds": 0.6}
    reporter.start_reporting(state)
    assert messages == [WORDS]


def test_a_host_that_has_caught_up_is_not_slow_any_more() -> None:
    """The row of the live view is about now; the report lists what lasted a good part of the run."""
    reporter = SlowRankReporter()
    run = add_steps(add_steps(History(*HOSTS).connect_hosts().start_hosts(), 1, 40), 40, 100, slow=0.2)
    play_events(run.hosts, run.events, reporter)
    assert reporter.slow_hosts() == {}
    (text,) = reporter.list_slow_ranks()
    assert text.startswith("gpu03 reports 0.6 s per step, 3.0 times as long as the others (0.2 s); not at the end")
    brief = add_steps(add_steps(History(*HOSTS).connect_hosts().start_hosts(), 1, 40), 40, 400, slow=0.2)
    reporter = SlowRankReporter()
    play_events(brief.hosts, brief.events, reporter)
    assert reporter.list_slow_ranks() == ()


def test_a_later_viewer_gets_the_present_slow_ranks() -> None:
    """Nothing while the record is caught up with."""
    messages: list[str] = []
    reporter = SlowRankReporter(messages.append, muted=True)
    run = add_steps(History(*HOSTS).connect_hosts().start_hosts(), 1, 60)
    state = play_events(run.hosts, run.events, reporter)
    assert messages == []
    reporter.start_reporting(state)
    assert messages == [WORDS]


def test_a_pause_of_all_ranks_blames_no_rank() -> None:
    """An evaluation or a checkpoint holds all of them up."""
    messages: list[str] = []
    run = add_steps(History(*HOSTS).connect_hosts().start_hosts(), 1, 30, slow=0.2).pass_time(10 * EVERY_SECONDS)
    play_events(run.hosts, add_steps(run, 30, 60, slow=0.2).events, SlowRankReporter(messages.append))
    assert messages == []
