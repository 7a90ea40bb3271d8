"""Progress line of ``fanout check``: how many hosts answer, and which ones it waits for."""

from __future__ import annotations

from fanout.commands.check import describe_answers
from fanout.model.events import ConnectFailed, Connecting
from tests.histories import History


def test_the_progress_line_names_the_hosts_that_are_awaited() -> None:
    run = History("gpu01", "gpu02", "gpu03", "gpu04")
    assert describe_answers(run.play_events()) == "0/4 hosts answer …"
    run.connect_hosts("gpu01", "gpu02")
    assert describe_answers(run.play_events()) == "2/4 hosts answer, waiting for gpu[03-04] …"
    run.add_events(Connecting(at=run.at, host="gpu03", attempt=1))
    run.add_events(ConnectFailed(at=run.at, host="gpu03", kind="Unreachable", message="no route", hint=""))
    assert describe_answers(run.play_events()) == "2/4 hosts answer, waiting for gpu04 …"
    assert describe_answers(run.connect_hosts("gpu04").play_events()) == "3/4 hosts answer …"
