"""Messages about background processes: waited for, ended or kept."""

from __future__ import annotations

import pytest

from fanout.model.events import BackgroundEnd, BackgroundFound
from fanout.ui.status_messages import StatusReporter
from tests.histories import History


def list_messages(how: BackgroundEnd, code: int, processes: str) -> list[str]:
    """Return the messages of a run on two hosts, where train.sh left the same processes on both."""
    run = History("gpu01", "gpu02").connect_hosts().start_hosts()
    if how != "waited":
        run.end_hosts(*run.hosts, code=code)
    for host in run.hosts:
        run.add_events(BackgroundFound(at=run.at, host=host, how=how, processes=processes, keeper=5))
    reporter = StatusReporter()
    found: list[str] = []
    run.pass_time(5.0).play_events(
        lambda event, state: found.extend(message.text for message in reporter.handle_event(event, state))
    )
    return [text for text in found if "train.sh" in text and "ended: exit" not in text]


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
