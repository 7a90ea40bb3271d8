"""Probe requests: the interface by which the check sends questions to all hosts at once and receives the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol

from fanout.model.events import AnswerReason
from fanout.model.frozen import frozen

WAVE = 24  # the number of hosts to ask at once before their speed is known


@frozen
class ProbeRequest:
    """One question to one host: ``what`` names a probe of the agent; the host stops it after ``timeout`` seconds.

    A question that ``holds`` stays open after its answer until it is cancelled, so it is sent only once.
    Its answer must arrive ``within`` seconds; if that is None, within ``timeout``.
    """

    host: str
    what: str
    args: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 10.0
    holds: bool = False
    within: float | None = None


@frozen
class ProbeAnswer:
    """One host's answer: ``error`` is "" or why there is no ``value`` (connection lost, timeout, the probe died).

    ``reason`` is for programs, ``error`` is the same as a text for people. ``handle`` identifies an open question for ``Asker.cancel``. ``sent`` and ``received`` are the Unix times of this
    question on the launcher's clock; both are 0 if the transport does not measure them.
    """

    value: Any = None
    error: str = ""
    reason: AnswerReason = ""
    handle: int = 0
    sent: float = 0.0
    received: float = 0.0


class MachineAsker(Protocol):
    """Interface that asks the own agents of hosts whose run is in containers, while the caller does other work."""

    def post(self, asks: Sequence[ProbeRequest]) -> None:
        """Connect to the hosts of the questions and send them. It waits for nothing."""

    def take_answers(self) -> list[ProbeAnswer]:
        """Wait for all answers, within their time limits, and return them in the same order."""


class Asker(Protocol):
    """Interface that sends questions to the agents over open connections."""

    def ask(self, asks: Sequence[ProbeRequest]) -> list[ProbeAnswer]:
        """Send all questions at once and wait for all answers, in the same order. A host's failure does not raise."""

    def is_still_open(self, host: str, handle: int) -> bool:
        """Return whether a question is still open on its host. It ends with the connection that carried it."""

    def cancel(self, host: str, handle: int) -> None:
        """End an open question. It is no error if the question has ended or the host is unreachable."""
