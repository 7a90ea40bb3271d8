"""Links that break and return: they reset no deadline, and a host without progress is given up in bounded time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fanout.model.actions import Abandon, Action
from fanout.model.events import Chunk, Connected, Disconnected, Event, Exited, Prepared, Started, Tick
from fanout.model.policy import decide_actions
from fanout.model.state import HostState, Phase, RunState, apply_event
from tests.model.test_policy import PATIENCE, POLICY, build_host, build_running_host, build_state


def play_flapping_link(before: RunState, *facts: Event, seconds: float) -> tuple[RunState, list[Action]]:
    """Let host a lose its link every 16 seconds; after each return it sends ``facts`` and nothing else."""
    now, found = before.now, before
    for _ in range(int(seconds / 16)):
        events = [
            Connected(at=now, host="a", attempt=2, took=0.1, hello={}),
            *(replace(one, at=now) for one in facts),
            *(Tick(at=now + second) for second in range(1, 15)),
            Disconnected(at=now + 15.0, host="a", why="silent for 15 s", silent_for=15.0),
        ]
        for event in events:
            found = apply_event(found, event)
            actions = list(decide_actions(POLICY, found))
            if any(isinstance(action, Abandon) for action in actions):
                return found, actions
        now += 16.0
    return found, []


SINCE = 1000.0
STARTED = (Prepared(at=0.0, host="a", pid=1), Started(at=0.0, host="a", pid=2))
UNKNOWN = Exited(at=SINCE, host="a", code=None, signal=None, why="the keeper on the host died without a record")


@pytest.mark.parametrize(
    ("one", "facts", "limit"),
    [
        (build_running_host(), (), POLICY.lease + PATIENCE),
        (build_running_host(stop_at=SINCE), STARTED, POLICY.lease + 2 * PATIENCE),
        (
            build_host(Phase.PREPARED, prepare_at=0.0, go_at=0.0, stop_at=SINCE),
            STARTED[:1],
            POLICY.lease + 2 * PATIENCE,
        ),
        (build_host(Phase.EXITED, go_at=0.0, exit=UNKNOWN), (*STARTED, UNKNOWN), POLICY.lease + 2 * PATIENCE),
    ],
    ids=["silent while it runs", "told to stop", "told to stop before it ran", "ended, its tree unknown"],
)
def test_flapping_host_without_progress_is_abandoned_in_time(
    one: HostState, facts: tuple[Event, ...], limit: float
) -> None:
    lost = replace(one, connected=False, disconnected_at=SINCE, no_message_since=SINCE)
    found, actions = play_flapping_link(build_state(lost, build_running_host()), *facts, seconds=3 * limit)
    assert [type(action) for action in actions if action.host == "a"] == [Abandon]
    assert limit < found.now - SINCE <= limit + 32.0


def test_flapping_host_is_kept_while_its_keeper_answers_or_its_log_grows() -> None:
    """A bad connection costs no run: the facts that a new link repeats prove that the keeper lives."""
    _, actions = play_flapping_link(
        build_state(build_running_host(), build_running_host()), *STARTED, seconds=10 * POLICY.lease
    )
    assert actions == []
    ended = build_host(Phase.EXITED, go_at=0.0, exit=UNKNOWN)
    piece = Chunk(at=0.0, host="a", stream=0, offset=0, data=b"x")
    _, actions = play_flapping_link(
        build_state(ended, build_running_host()), *STARTED, UNKNOWN, piece, seconds=10 * POLICY.lease
    )
    assert actions == []
