"""Failed reconnections during a run: each new reason of a host that can be reached is an event."""

from __future__ import annotations

from dataclasses import replace

from fanout.model.errors import AgentRefused, AuthRefused, ContainerGone, TransportError, Unreachable
from fanout.model.events import Connecting, Disconnected, HostLost, ReconnectFailed
from fanout.model.policy import Policy, decide_actions
from fanout.remote.reconnection import ReconnectionErrors
from fanout.ui.host_condition import describe_host
from fanout.ui.run_condition import RunCondition
from fanout.ui.status_messages import StatusReporter
from tests.histories import History
from tests.ui.goldens import build_heading

PAUSED = AgentRefused("container work: it is paused", hint="continue it:  ssh gpu02 docker unpause work")
DAEMON = AgentRefused("container work: the docker daemon does not answer: Cannot connect to the Docker daemon")


def test_each_new_reason_of_a_host_that_can_be_reached_is_reported_once() -> None:
    errors = ReconnectionErrors("gpu02")
    attempts: list[tuple[int, TransportError]] = [
        (1, Unreachable("refused the connection")),
        (2, PAUSED),
        (3, PAUSED),
        (3, AgentRefused("failed at 00:37:25")),
        (3, AgentRefused("failed at 00:37:26")),
        (4, Unreachable("no answer")),
        (5, PAUSED),
        (6, DAEMON),
        (7, AuthRefused("permission denied")),
        (1, AuthRefused("permission denied")),  # the connection had come back, and broke again
    ]
    events = [errors.explain_error(error, attempt, 5.0) for attempt, error in attempts]
    reported = [(event.why, event.hint) for event in events if isinstance(event, ReconnectFailed)]
    denied = ("permission denied", "")
    assert reported == [
        (str(PAUSED), PAUSED.hint),
        ("failed at 00:37:25", ""),
        (str(PAUSED), PAUSED.hint),
        (str(DAEMON), ""),
        denied,
        denied,
    ]


def test_a_container_that_has_ended_or_is_missing_is_a_loss() -> None:
    gone = [ContainerGone("it is not running", is_empty=True), ContainerGone("no such container", is_empty=False)]
    events = [ReconnectionErrors("gpu02").explain_error(error, 1, 5.0) for error in gone]
    assert [event.reason for event in events if isinstance(event, HostLost)] == ["container-ended", "container-missing"]


def test_views_and_the_final_reason_name_why_the_host_cannot_be_entered_again() -> None:
    history = History("gpu01", "gpu02").connect_hosts().start_hosts().pass_time(1.0)
    at = history.at
    history.add_events(
        Disconnected(at=at, host="gpu02", why="silent for 15 s", silent_for=15.0),
        Connecting(at=at, host="gpu02", attempt=2),
        ReconnectFailed(at=at, host="gpu02", why=str(PAUSED), hint=PAUSED.hint),
    ).pass_time(4.0)
    reporter = StatusReporter()
    texts: list[str] = []
    state = history.play_events(lambda event, state: texts.extend(m.text for m in reporter.handle_event(event, state)))
    assert texts[-2:] == ["gpu02: cannot reconnect: container work: it is paused", f"gpu02: try: {PAUSED.hint}"]
    shown = describe_host(state.hosts["gpu02"], build_heading(history.hosts), state, RunCondition.DISCONNECTED)
    assert "(container work: it is paused), attempt 2" in shown
    late = replace(state, now=state.now + 1000.0, awake_at=0.0)
    whys = [getattr(action, "why", "") for action in decide_actions(Policy(), late)]
    assert any(why.startswith("no connection for") and "(container work: it is paused)" in why for why in whys), whys
