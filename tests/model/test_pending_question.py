"""Pending questions: an answer, the deadline, or the end of the connection settles each, never later."""

from __future__ import annotations

from dataclasses import replace

from fanout.model.events import Answered, Connected, Connecting, Disconnected, Event, HostLost, Tick
from fanout.model.pending_question import MOST_TRIES, TRANSIT_SECONDS, PendingQuestion
from fanout.model.rpc import ProbeRequest
from fanout.model.state import RunState, apply_event


def build_connected(at: float, state: RunState | None = None) -> RunState:
    state = state or RunState.initial(["h"], at=at)
    return apply_events(
        state, Connecting(at=at, host="h", attempt=1), Connected(at=at, host="h", attempt=1, took=0.1, hello={})
    )


def apply_events(state: RunState, *events: Event) -> RunState:
    for event in events:
        state = apply_event(state, event)
    return state


def pass_time(state: RunState, until: float) -> RunState:
    while state.now < until:
        state = apply_event(state, Tick(at=min(until, state.now + 1.0)))
    return state


def ask_question(ask: ProbeRequest, at: float = 0.0, connection: float | None = 0.0) -> PendingQuestion:
    question = PendingQuestion(ask, at)
    question.mark_sent(1, connection, at)
    return question


FACTS = ProbeRequest(host="h", what="facts", timeout=15.0)
LISTEN = ProbeRequest(host="h", what="listen", timeout=20.0, holds=True)


def test_an_answer_settles_it() -> None:
    state = apply_events(build_connected(0.0), Answered(at=2.0, host="h", ask=1, value={"a": 1}, error=""))
    question = ask_question(FACTS)
    assert question.is_settled(state)
    assert question.answer is not None
    assert (question.answer.value, question.answer.error) == ({"a": 1}, "")
    assert (question.answer.sent, question.answer.received) == (0.0, 2.0)


def test_a_host_that_never_answers_costs_the_timeout_and_the_round_trip() -> None:
    question = ask_question(FACTS)
    assert not question.is_settled(pass_time(build_connected(0.0), 15.0 + TRANSIT_SECONDS))
    assert question.is_settled(pass_time(build_connected(0.0), 16.0 + TRANSIT_SECONDS))
    assert question.answer is not None
    assert "no answer within 25 s" in question.answer.error


def test_answers_from_the_launchers_suspend_count_before_the_deadline() -> None:
    question = ask_question(FACTS)
    slept = apply_events(pass_time(build_connected(0.0), 3.0), Tick(at=900.0))
    assert not question.is_settled(slept)
    assert question.is_settled(pass_time(slept, 900.0 + 16.0 + TRANSIT_SECONDS))


def test_a_question_lost_with_its_connection_is_sent_again_on_the_next() -> None:
    """The relay at the other end of a new connection does not know it."""
    question = ask_question(FACTS)
    broken = apply_events(build_connected(0.0), Disconnected(at=1.0, host="h", why="cut"))
    assert not question.is_settled(broken)
    assert not question.is_due(broken.hosts["h"])
    back = build_connected(2.0, broken)
    assert not question.is_settled(back)
    assert question.is_due(back.hosts["h"])
    question.mark_sent(2, 2.0, 2.0)
    assert not question.is_due(back.hosts["h"])
    assert question.is_settled(apply_events(back, Answered(at=3.0, host="h", ask=2, value={}, error="")))


def test_a_question_on_a_connection_that_the_launcher_does_not_know_yet_is_not_sent_twice() -> None:
    """The connection was made again while the question was sent; its event is not processed yet."""
    question = ask_question(FACTS, at=2.0, connection=2.0)
    assert not question.is_due(build_connected(0.0).hosts["h"])


def test_flapping_connection_does_not_block_questions() -> None:
    question, state, now = PendingQuestion(FACTS, 0.0), build_connected(0.0), 0.0
    while not question.is_settled(state):
        if question.is_due(state.hosts["h"]):
            question.mark_sent(int(now) + 1, state.hosts["h"].connected_at, now)
        now += 1.0
        state = build_connected(now + 0.5, apply_events(state, Disconnected(at=now, host="h", why="cut")))
        assert now < 100
    assert question.answer is not None
    assert question.answer.error == f"the connection broke {MOST_TRIES} times"


def test_a_connection_that_does_not_come_back_costs_the_deadline() -> None:
    question = ask_question(FACTS)
    broken = apply_events(build_connected(0.0), Disconnected(at=1.0, host="h", why="cut"))
    assert question.is_settled(pass_time(broken, 16.0 + TRANSIT_SECONDS))
    assert question.answer is not None
    assert question.answer.error == "the connection broke"


def test_a_question_that_holds_a_resource_is_not_sent_twice() -> None:
    """The listener of the old relay may still have the port."""
    question = ask_question(LISTEN)
    back = build_connected(2.0, apply_events(build_connected(0.0), Disconnected(at=1.0, host="h", why="cut")))
    assert not question.is_due(back.hosts["h"])
    assert question.is_settled(back)


def test_a_host_that_is_given_up_settles_its_question() -> None:
    question = ask_question(FACTS)
    assert question.is_settled(apply_events(build_connected(0.0), HostLost(at=1.0, host="h", why="gone")))


def test_the_answer_of_a_long_lived_question_is_expected_soon() -> None:
    question = ask_question(replace(LISTEN, timeout=1800.0, within=5.0))
    assert question.is_settled(pass_time(build_connected(0.0), 6.0 + TRANSIT_SECONDS))
