"""Messages about background processes: waited for, ended or kept; and about hosts that train alone."""

from __future__ import annotations

import pytest

from fanout.model.events import BackgroundEnd, BackgroundFound, FirstStep, RanksSeen
from fanout.ui.status_messages import StatusReporter
from tests.histories import History


def list_messages(how: BackgroundEnd, code: int, processes: str) -> list[str]:
    """Return the messages of a run on two hosts, where train.sh left the same processes on both."""
    run = History("gpu01", "gpu02").connect_hosts().start_hosts()
    if how != "waited":
        run.end_hosts(*run.hosts, code=code)
    for host in run.hosts:
        run.add_events(BackgroundFound(at=run.at, host=host, how=how, processes=processes, keeper=5))
    return [text for text in report_messages(run.pass_time(5.0)) if "train.sh" in text and "ended: exit" not in text]


def report_messages(run: History) -> list[str]:
    """Return the messages about the events of a run."""
    reporter = StatusReporter()
    found: list[str] = []
    run.play_events(lambda event, state: found.extend(message.text for message in reporter.handle_event(event, state)))
    return found


def test_waited_launcher_is_named_once_for_all_hosts() -> None:
    assert list_messages("waited", 0, "pid 7 /usr/bin/python3 -u /opt/bin/torchrun --node-rank=1 a.py") == [
        "gpu[01-02]: train.sh returned, and its background process still runs: waiting for torchrun"
    ]


@pytest.mark.parametrize(("code", "advises"), [(0, True), (3, False)])
def test_ended_processes_are_counted_with_the_way_to_keep_them(code: int, advises: bool) -> None:
    """After a failure no value of --background keeps a process, so the message names none."""
    (text,) = list_messages("ended", code, "pid 7 raylet -x\npid 8 sleep 9")
    assert text.startswith("gpu[01-02]: the keeper ended 2 processes that train.sh left running: raylet")
    assert ("--background keep" in text and "ray start --block" in text) is advises


def test_kept_processes_are_named_in_the_report_only() -> None:
    assert list_messages("kept", 0, "pid 7 torchrun a.py") == []


@pytest.mark.parametrize(("second", "is_separate"), [((0, 1), True), ((0, 2, 3), False)])
def test_hosts_that_train_alone_are_named_once_after_the_first_step(second: tuple[int, ...], is_separate: bool) -> None:
    """Before the first step, each host may run a helper of its own, which is a rank 0 too."""
    run = History("gpu01", "gpu02").connect_hosts().start_hosts()
    for host in run.hosts:
        run.add_events(RanksSeen(at=run.at, host=host, ranks=(0,)))
    run.add_events(RanksSeen(at=run.at, host="gpu01", ranks=(0, 1)), RanksSeen(at=run.at, host="gpu02", ranks=second))
    assert not any("rank 0" in text for text in report_messages(run))
    run.add_events(FirstStep(at=run.at, step=1), RanksSeen(at=run.at, host="gpu01", ranks=(0, 1)))
    found = [text for text in report_messages(run) if "rank 0" in text]
    assert (
        found
        == ["gpu[01-02] each have a rank 0: every host trains as a group of its own (fanout check names the cause)"]
        * is_separate
    )
