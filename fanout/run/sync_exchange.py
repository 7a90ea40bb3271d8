"""Exchange of a sync: the open question of each host, what it has answered, and the bytes that wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fanout.model.events import Answered, Disconnected, Event, HostLost
from fanout.model.rpc import ProbeRequest
from fanout.model.state import RunState
from fanout.remote import protocol
from fanout.remote.pool import ConnectionPool
from fanout.run.session import Session
from fanout.sync.upload import Piece

QUESTION = "sync"
OPEN_SECONDS = 86400.0  # the host ends a sync that takes longer
STALL_SECONDS = 60.0  # without an answer of a host that has to do something


def build_piece(data: bytes) -> Piece:
    """Return bytes with their frame. One piece serves all hosts, so it is compressed once."""
    return Piece(size=len(data), frame=protocol.input_frame(QUESTION, data))


class HostExchange:
    """The exchange with one host: its answers by state, or why there are no more."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.handle = 0
        self.answers: dict[str, Mapping[str, Any]] = {}  # state -> the newest answer
        self.error = ""
        self.is_lost = False
        self.sent_bytes = 0
        self.answered_at = 0.0

    @property
    def received_bytes(self) -> int:
        """Return how many bytes the host has processed."""
        answer = self.answers.get("received")
        return int(answer["bytes"]) if answer is not None else 0

    def set_error(self, error: str, *, lost: bool = False) -> None:
        """Note why the exchange has ended; the first reason counts."""
        if not self.error:
            self.error, self.is_lost = error, lost


class SyncExchanges:
    """The exchanges with all hosts. It subscribes to the events of the session."""

    broken = False

    def __init__(self, session: Session, pool: ConnectionPool) -> None:
        self._session, self._pool = session, pool
        self._by_host: dict[str, HostExchange] = {}
        session.add_subscriber(self)

    def open(self, args: Mapping[str, Mapping[str, Any]]) -> list[HostExchange]:
        """Ask each connected host; return the exchanges with all hosts. ``args``: host -> arguments of the question."""
        state = self._session.state
        self._by_host = {host: HostExchange(host) for host in args}
        asked = [host for host in args if state.hosts[host].connected]
        for host in set(args) - set(asked):
            trouble = state.hosts[host].trouble
            self._by_host[host].set_error(trouble.message if trouble is not None else "not connected", lost=True)
        requests = [
            ProbeRequest(host=host, what=QUESTION, args=args[host], timeout=OPEN_SECONDS, holds=True) for host in asked
        ]
        for host, question in zip(asked, self._session.post_questions(requests), strict=True):
            self._by_host[host].handle = question.number
            self._by_host[host].answered_at = state.now
        return list(self._by_host.values())

    def read_clock(self) -> float:
        """Return the present time of the session."""
        return self._session.state.now

    def close(self, exchanges: Iterable[HostExchange]) -> None:
        """End these exchanges. A host deletes what it has received and not published."""
        for exchange in exchanges:
            if exchange.handle:
                self._session.cancel(exchange.host, exchange.handle)
                exchange.handle = 0

    def __call__(self, event: Event, state: RunState) -> None:
        match event:
            case Answered():
                self._add_answer(event, state.now)
            case Disconnected() | HostLost():
                exchange = self._by_host.get(event.host)
                if exchange is not None and exchange.handle:
                    exchange.set_error(f"connection lost: {event.why}", lost=True)
            case _:
                pass

    def _add_answer(self, event: Answered, now: float) -> None:
        exchange = self._by_host.get(event.host)
        if exchange is None or exchange.handle != event.ask:
            return
        exchange.answered_at = now
        if event.error:
            exchange.set_error(event.error)
        else:
            exchange.answers[event.value["state"]] = event.value

    def send_piece(self, exchange: HostExchange, piece: Piece) -> None:
        """Send a piece to the host."""
        self._pool.send_input(exchange.host, piece.frame)
        exchange.sent_bytes += piece.size

    def wait_for(
        self,
        state: str,
        exchanges: Sequence[HostExchange],
        work: Callable[[], None] = lambda: None,
    ) -> list[HostExchange]:
        """Wait until each host has answered with this state or has failed. Return those that have answered.

        ``work`` is called after each event. A host without any answer for too long has failed.
        """
        for exchange in exchanges:
            exchange.answered_at = self._session.state.now
        while not self._session.state.interrupts:
            waiting = [each for each in exchanges if not each.error and state not in each.answers]
            if not waiting:
                break
            now = self._session.state.now
            for exchange in waiting:
                if now - max(exchange.answered_at, self._session.state.awake_at) > STALL_SECONDS:
                    exchange.set_error(f"no progress for {STALL_SECONDS:g} s", lost=True)
            work()
            self._session.run_step()
        if self._session.state.interrupts:
            for exchange in exchanges:
                if state not in exchange.answers:
                    exchange.set_error("interrupted", lost=True)
        return [each for each in exchanges if not each.error]
