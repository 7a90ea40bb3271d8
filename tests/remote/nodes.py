"""Hosts that keep the agent's protocol, or do not, over the transport in memory; and whole runs over them."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from fanout.agent import bundle, frames
from fanout.model.errors import TransportError
from fanout.model.events import Chunk, Event
from fanout.model.host_facts import HostFacts
from fanout.model.hosts import Host
from fanout.model.outcome import RunOutcome
from fanout.model.planner import Planner
from fanout.model.policy import Policy
from fanout.model.settings import Settings
from fanout.model.state import RunState
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.run.session import Session
from tests.remote.scripted import Cut, Far, Script, ScriptedTransport
from tests.remote.ways import build_host

POLICY = Policy(grace=1.0, last_words=0.0, lease=5.0, start_timeout=20.0)


class Node:
    """A host's end of the protocol, scripted by the test."""

    def __init__(self, far: Far) -> None:
        self.far = far
        self._splitter = frames.FrameSplitter()
        self._messages: list[dict[str, Any]] = []
        nonce = far.command.split()[-1]
        far.write_bytes(f"motd\n\n@{nonce} READY 3.11\n".encode())
        data = b""
        while len(data) < len(bundle.pack_agent()):
            data += far.read_bytes()
        assert data[: len(bundle.pack_agent())] == bundle.pack_agent()
        self._splitter.feed(data[len(bundle.pack_agent()) :])
        self.send_message(t="hello", python="3.11.0", hostname=far.host.name)

    def send_message(self, **message: Any) -> None:
        self.far.write_bytes(frames.pack_control(message))

    def send_log(self, offset: int, data: bytes) -> None:
        self.far.write_bytes(frames.pack_data(0, offset, data))

    def expect_operation(self, op: str) -> dict[str, Any]:
        while True:
            for message in self._messages:
                if message["op"] == op:
                    self._messages.remove(message)
                    return message
                if message["op"] == "release":  # sent home before that
                    self.send_message(t="released")
                    raise Cut
            self._messages += self._splitter.feed(self.far.read_bytes())

    def start_run(self) -> None:
        self.expect_operation("prepare")
        self.send_message(t="prepared", pid=7)
        self.expect_operation("go")
        self.send_message(t="started", pid=8)

    def end_run(self, data: bytes, code: int | None = 0, signal: int | None = None) -> None:
        self.send_message(t="exited", code=code, signal=signal)
        self.send_message(
            t="cleaned_up", killed=0, left=[], sizes={"0": len(data)}, crc={"0": zlib.crc32(data)}, dropped=0
        )
        self.expect_operation("release")
        self.send_message(t="released")


class Seen:
    """A subscriber that keeps everything."""

    broken = False

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event, state: RunState) -> None:
        self.events.append(event)

    def join_output(self, name: str) -> bytes:
        chunks = [event for event in self.events if isinstance(event, Chunk) and event.host == name]
        have = 0
        for chunk in chunks:
            assert chunk.offset == have
            have += len(chunk.data)
        return b"".join(chunk.data for chunk in chunks)

    def list_kinds(self, name: str) -> list[str]:
        return [type(event).__name__ for event in self.events if getattr(event, "host", "") == name]


def choose_scripts(*each: Script | TransportError) -> Callable[[Host, int], Script]:
    """Give the first connection the first script, and so on; errors are raised instead."""

    def choose_script(host: Host, attempt: int) -> Script:
        script = each[min(attempt, len(each)) - 1]
        if isinstance(script, TransportError):
            raise script
        return script

    return choose_script


def run_scripts(
    hosts: dict[str, Callable[[Host, int], Script]], timeout: float = 5.0
) -> tuple[RunOutcome, Seen, ScriptedTransport]:
    """Run all steps, as ``fanout run --skip-check`` does."""
    transport = ScriptedTransport(lambda one, attempt: hosts[one.name](one, attempt))
    known = [build_host(name, slots=1) for name in hosts]
    pool = ConnectionPool(known, lambda one: transport, ConnectionOptions(connect_timeout=timeout, by="me@pc"), Clock())
    outcome, seen = run_over(pool, known)
    return outcome, seen, transport


def run_over(pool: ConnectionPool, known: list[Host]) -> tuple[RunOutcome, Seen]:
    """Run all steps over the test's own connection pool."""
    planner = Planner(hosts=known, task=("task.py",), settings=Settings(), run_id="r1", directory="/p", has_script=True)
    plan = planner.make_plan(HostFacts(master_addr="10.0.0.1"))
    seen = Seen()
    session = Session(pool, [one.name for one in known], [seen])
    pool.start()
    try:
        session.connect_hosts()
        return session.run_plan(POLICY, plan), seen
    finally:
        pool.close()


def run_well(data: bytes = b"hello\n", code: int = 0) -> Script:
    def play_script(far: Far) -> int:
        node = Node(far)
        node.start_run()
        node.send_log(0, data)
        node.end_run(data, code)
        return 0

    return play_script


TEXT = b"0123456789" * 100


def cut_after(sent: int, *, breaks: bool) -> Script:
    def play_script(far: Far) -> int:
        node = Node(far)
        node.start_run()
        node.send_log(0, TEXT[:sent])
        if breaks:
            far.break_connection(ConnectionResetError("reset by peer"))
        return 255

    return play_script


def resume_run(repeated: int) -> Script:
    """Go on where the launcher is, or send some bytes again, as a host may that missed an answer."""

    def play_script(far: Far) -> int:
        node = Node(far)
        asked = node.expect_operation("attach")
        assert (asked["run"], asked["node"]) == ("r1", 0)
        at = asked["cursors"].get("0", 0) - repeated
        node.send_message(t="prepared", pid=7)
        node.send_message(t="started", pid=8)
        node.send_log(at, TEXT[at:])
        node.end_run(TEXT, 0)
        return 0

    return play_script
