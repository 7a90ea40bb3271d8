"""Run messages: which events of a run become messages."""

from __future__ import annotations

import pytest

from fanout.model.outcome import outcome_of
from fanout.model.state import RunState, apply_event
from fanout.notify.message import RunMessage
from fanout.notify.run_messages import RunMessages
from tests import histories


def collect_messages(history: histories.History, attempt: int = 0) -> list[RunMessage]:
    """Return the messages of a run, with its end."""
    got: list[RunMessage] = []
    messages = RunMessages(got.append, run="R1", name="", task="train.py")
    messages.begin_attempt(attempt, history.hosts, lambda: (5, 2.5))
    state = RunState.initial(history.hosts, at=history.began_at)
    for event in history.events:
        state = apply_event(state, event)
        messages(event, state)
    messages.finish(outcome_of(state), "", history.at)
    return got


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("good", ["started", "ended"]),
        ("failed", ["started", "failed"]),
        ("interrupted", ["started", "ended"]),
        ("link", ["started", "ended"]),
        ("unreachable", ["failed"]),
    ],
)
def test_messages_of_a_typical_run(name: str, kinds: list[str]) -> None:
    messages = collect_messages(histories.TYPICAL[name]())
    assert [message.event for message in messages] == kinds
    assert messages[-1].command == "fanout report R1"
    assert messages[-1].exit_code is not None


def test_later_attempt_is_a_restart() -> None:
    first = collect_messages(histories.good_run(), attempt=2)[0]
    assert (first.event, first.headline) == ("restarted", "attempt 2: train.sh runs on gpu[01-02]")
