"""Questions over links that break: none waits without end, none is put to a relay that does not know it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from fanout.agent import frames
from fanout.model import pending_question
from fanout.model.events import Heartbeat
from fanout.model.hosts import Host
from fanout.model.rpc import ProbeAnswer, ProbeRequest
from fanout.remote.connection import MESSAGES_IN_QUEUE
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.run.session import Session
from tests.remote.nodes import Node, choose_scripts
from tests.remote.scripted import Far, Script, ScriptedTransport
from tests.remote.ways import build_host


def answer_all(far: Far) -> int:
    node = Node(far)
    while True:
        question = node.expect_operation("ask")
        node.send_message(t="answer", id=question["id"], value={"time": 1.0, "pid": 1}, error="")


def ask_hosts(
    hosts: dict[str, Callable[[Host, int], Script]], *asks: ProbeRequest
) -> tuple[list[ProbeAnswer], Session]:
    """Ask these questions in a session; return the answers and the session."""
    transport = ScriptedTransport(lambda one, attempt: hosts[one.name](one, attempt))
    pool = ConnectionPool(
        [build_host(name) for name in hosts], lambda one: transport, ConnectionOptions(connect_timeout=5.0), Clock()
    )
    session = Session(pool, list(hosts), [])
    pool.start()
    try:
        session.connect_hosts()
        return session.ask(asks), session
    finally:
        pool.close()


def test_returning_link_does_not_block_questions_to_other_hosts() -> None:
    """The question went down with the first connection; it is put again on the second."""
    may_answer = threading.Event()

    def cut_link(far: Far) -> int:
        Node(far).expect_operation("ask")
        far.break_connection(ConnectionResetError("reset by peer"))
        return 255

    def answer_after_return(far: Far) -> int:
        node = Node(far)
        question = node.expect_operation("ask")
        may_answer.set()
        node.send_message(t="answer", id=question["id"], value={"time": 2.0, "pid": 1}, error="")
        node.expect_operation("release")
        return 0

    def answer_slowly(far: Far) -> int:
        node = Node(far)
        question = node.expect_operation("ask")
        assert may_answer.wait(20)
        node.send_message(t="answer", id=question["id"], value={"time": 3.0, "pid": 1}, error="")
        node.expect_operation("release")
        return 0

    asks = (ProbeRequest(host="a", what="clock"), ProbeRequest(host="b", what="clock"))
    answers, _ = ask_hosts(
        {"a": choose_scripts(cut_link, answer_after_return), "b": choose_scripts(answer_slowly)}, *asks
    )
    assert [(answer.value, answer.error) for answer in answers] == [
        ({"time": 2.0, "pid": 1}, ""),
        ({"time": 3.0, "pid": 1}, ""),
    ]


def test_a_question_that_is_never_answered_costs_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_question, "TRANSIT_SECONDS", 0.2)

    def answer_nothing(far: Far) -> int:
        Node(far).expect_operation("release")
        return 0

    answers, _ = ask_hosts({"a": choose_scripts(answer_nothing)}, ProbeRequest(host="a", what="clock", timeout=0.1))
    assert answers[0].error.startswith("no answer within 0.3")


def test_answers_that_were_not_asked_for_are_dropped_and_settled_ones_are_not_kept() -> None:
    def send_unasked_answers(far: Far) -> int:
        node = Node(far)
        for number in range(1000, 1200):
            node.send_message(t="answer", id=number, value=["x" * 1000], error="")
        question = node.expect_operation("ask")
        for _ in range(3):
            node.send_message(t="answer", id=question["id"], value={"time": 1.0, "pid": 1}, error="")
        node.expect_operation("release")
        return 0

    answers, session = ask_hosts({"a": choose_scripts(send_unasked_answers)}, ProbeRequest(host="a", what="clock"))
    assert answers[0].value == {"time": 1.0, "pid": 1}
    assert not session.state.answers


def test_resources_of_a_host_end_with_its_connection() -> None:
    """A listener whose connection broke is gone: who cannot reach it has no fault."""

    def hold_port(far: Far) -> int:
        node = Node(far)
        question = node.expect_operation("ask")
        node.send_message(t="answer", id=question["id"], value={"port": 4711}, error="")
        node.expect_operation("ask")
        far.break_connection(ConnectionResetError("reset by peer"))
        return 255

    hosts = {"a": choose_scripts(hold_port, answer_all)}
    transport = ScriptedTransport(lambda one, attempt: hosts[one.name](one, attempt))
    pool = ConnectionPool([build_host("a")], lambda one: transport, ConnectionOptions(connect_timeout=5.0), Clock())
    session = Session(pool, ["a"], [])
    pool.start()
    session.connect_hosts()
    (listener,) = session.ask([ProbeRequest(host="a", what="listen", holds=True)])
    assert session.is_still_open("a", listener.handle)
    session.ask([ProbeRequest(host="a", what="clock")])
    assert not session.is_still_open("a", listener.handle)
    pool.close()


def test_a_flood_of_messages_is_held_back_at_its_host() -> None:
    """The launcher is busy: what waits for it does not grow with what the host sends."""
    sent = threading.Event()

    def flood_launcher(far: Far) -> int:
        node = Node(far)
        for _ in range(20):
            far.write_bytes(b"".join(frames.pack_control({"t": "heartbeat"}) for _ in range(500)))
        sent.set()
        node.expect_operation("release")
        return 0

    transport = ScriptedTransport(lambda one, attempt: flood_launcher)
    pool = ConnectionPool([build_host("a")], lambda one: transport, ConnectionOptions(connect_timeout=5.0), Clock())
    pool.start()
    session = Session(pool, ["a"], [])
    session.connect_hosts()
    assert sent.wait(20)
    assert pool._queue.qsize() <= MESSAGES_IN_QUEUE + 8
    seen = 0
    while seen < 9000:
        seen += isinstance(session.run_step(1.0), Heartbeat)
    assert pool._queue.qsize() <= MESSAGES_IN_QUEUE + 8
    session.release_hosts()
    pool.close()
