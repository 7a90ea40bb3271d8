"""How the check talks to hosts: questions in, answers out, all hosts at once. Who carries them is not known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

WAVE = 24  # so many hosts are asked at once without knowing how quick they are


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question to one host: ``what`` is one of the agent's probes; after ``timeout`` seconds the host gives it up.

    A question that ``holds`` lives on after its answer, until it is cancelled, and so it is put only once. Its answer is
    expected ``within`` so many seconds; without that, within ``timeout``.
    """

    host: str
    what: str
    args: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 10.0
    holds: bool = False
    within: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: ``error`` is "" or says why ``value`` could not be had (link lost, no time, the probe died).

    ``handle`` names a long-lived question to ``Asker.cancel``. ``sent`` and ``received`` are Unix time on the
    launcher's clock around this one question; both 0 where the carrier does not tell.
    """

    value: Any = None
    error: str = ""
    handle: int = 0
    sent: float = 0.0
    received: float = 0.0


class Asker(Protocol):
    """Carries questions to the agents over links that are already up."""

    def ask(self, asks: Sequence[Ask]) -> list[Answer]:
        """Put all questions at once and wait for all; the answers stand in the same order. Never raises for a host."""

    def still_holds(self, host: str, handle: int) -> bool:
        """Does a long-lived question still live on its host? It ends with the connection that carried it."""

    def cancel(self, host: str, handle: int) -> None:
        """End a long-lived question; one that is over, or a host that is gone, is no error."""
