"""Pending questions: one question to one host until it is answered, timed out, or its host or connection is lost. Pure.

A question belongs to the connection that carried it, because the relay on the host ends with its connection. It is sent
again on a later connection, a limited number of times. So a connection that breaks repeatedly cannot delay the caller.
"""

from __future__ import annotations

from fanout.model.events import BROKE, AnswerReason
from fanout.model.rpc import ProbeAnswer, ProbeRequest
from fanout.model.state import HostState, RunState

TRANSIT_SECONDS = 10.0  # added to the host's own time limit: for both directions, and for a busy host
MOST_TRIES = 3


class PendingQuestion:
    """One question and its state."""

    def __init__(self, ask: ProbeRequest, now: float) -> None:
        self.ask = ask
        self.number = 0
        self.answer: ProbeAnswer | None = None
        self._tries = 0
        self._put_at = now
        self._connection: float | None = None  # when the connection that carries it was made

    def mark_sent(self, number: int, connection: float | None, now: float) -> None:
        """Record that the question was sent. If ``connection`` is None it was not sent, and goes to the next one."""
        self.number, self._put_at = number, now
        self._connection = connection
        self._tries += connection is not None

    def is_due(self, host: HostState) -> bool:
        """Return whether the question must be sent on the host's present connection."""
        if self.answer is not None or not host.connected:
            return False
        return self._tries == 0 or (self._is_connection_lost(host) and not self.ask.holds and self._tries < MOST_TRIES)

    def is_settled(self, state: RunState) -> bool:
        """Return whether the question is settled; set ``answer`` if it is."""
        if self.answer is None:
            self.answer = self._find_answer(state)
        return self.answer is not None

    def _find_answer(self, state: RunState) -> ProbeAnswer | None:
        host, event = state.hosts[self.ask.host], state.answers.get((self.ask.host, self.number))
        if event is not None and self._tries:
            answered = event.value if not event.error else None
            return ProbeAnswer(
                value=answered,
                error=event.error,
                reason=event.reason,
                handle=self.number,
                sent=self._put_at,
                received=event.at,
            )
        within = self.ask.within if self.ask.within is not None else self.ask.timeout
        reason: AnswerReason = "connection-lost"
        if host.phase.is_final:
            error = BROKE
        elif self._tries and self._is_connection_lost(host) and (self.ask.holds or self._tries == MOST_TRIES):
            error = BROKE if self._tries == 1 else f"{BROKE} {self._tries} times"
        elif state.now - max(self._put_at, state.awake_at) > within + TRANSIT_SECONDS:
            error = f"no answer within {within + TRANSIT_SECONDS:g} s" if host.connected else BROKE
            reason = "timeout" if host.connected else "connection-lost"
        else:
            return None
        return ProbeAnswer(error=error, reason=reason, handle=self.number)

    def _is_connection_lost(self, host: HostState) -> bool:
        """Return whether the connection that carried the question has ended, as far as the launcher knows."""
        if self._connection is None:
            return True
        return not host.connected or (host.connected_at or 0.0) > self._connection
