"""Batched questions: ask many hosts, but not more at once than hosts, network and launcher can answer in time.

The first wave shows how long an answer takes. If that is short, all other hosts are asked at once, else in waves of the
same size. If most hosts of a wave are late, the load is the likely cause: they are asked again in smaller waves, with a
longer time limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fanout.model.rpc import WAVE, Asker, ProbeAnswer, ProbeRequest

_FEWEST = 4  # with fewer late hosts, the load is not taken for the cause
_PATIENCE = 4.0
_OFTEN_SLOW = {"reverse", "own_name"}  # a name server that does not answer is slow for all, and has checks of its own


class BatchedAsker:
    """An Asker in front of another. ``slow`` is a sentence if hosts had to be asked in smaller waves."""

    def __init__(self, asker: Asker, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._asker = asker
        self._clock = clock
        self._patience = 1.0
        self._size = WAVE
        self.slow = ""

    def ask(self, asks: Sequence[ProbeRequest]) -> list[ProbeAnswer]:
        """Send all questions in waves. Return the answers in the same order."""
        answers: list[ProbeAnswer] = []
        took = 0.0
        while len(answers) < len(asks):
            rest = asks[len(answers) :]
            wave = rest[: len(rest) if answers and self._can_ask_all(took, len(rest), rest[0]) else self._size]
            began = self._clock()
            answers += self._ask_wave(wave)
            took = (self._clock() - began) / len(wave)
        return answers

    def is_still_open(self, host: str, handle: int) -> bool:
        return self._asker.is_still_open(host, handle)

    def cancel(self, host: str, handle: int) -> None:
        self._asker.cancel(host, handle)

    def _can_ask_all(self, took: float, count: int, ask: ProbeRequest) -> bool:
        """Return whether ``count`` hosts would answer in time even if each slows the others down."""
        return self._size == WAVE and took * count < ask.timeout / 3

    def _ask_wave(self, wave: Sequence[ProbeRequest]) -> list[ProbeAnswer]:
        """Ask one wave. If most hosts are late, ask those once more."""
        answers = self._asker.ask([self._extend_timeout(ask) for ask in wave])
        late = [at for at, answer in enumerate(answers) if is_late(answer)]
        if len(late) < max(_FEWEST, (len(wave) + 1) // 2) or self._patience > 1.0:
            return answers
        self._patience, self._size = _PATIENCE, max(2, len(wave) // 6)
        self.slow = f"{len(late)} of {len(wave)} hosts answered too late when asked at once: asked again, {self._size} at a time"
        for at in late:
            if answers[at].handle and not answers[at].error:
                self._asker.cancel(wave[at].host, answers[at].handle)
        for start in range(0, len(late), self._size):
            some = late[start : start + self._size]
            again = self._asker.ask([self._extend_timeout(wave[at]) for at in some])
            for at, answer in zip(some, again, strict=True):
                answers[at] = answer
        return answers

    def _extend_timeout(self, ask: ProbeRequest) -> ProbeRequest:
        if self._patience == 1.0:
            return ask
        args = {**ask.args, "guard": 5.0 * self._patience, "software_seconds": 8.0 * self._patience}
        within = None if ask.within is None else ask.within * self._patience
        args = args if ask.what == "facts" else dict(ask.args)
        return replace(ask, timeout=ask.timeout * self._patience, within=within, args=args)


def is_late(answer: ProbeAnswer) -> bool:
    """Return whether a host or a section timed out, for another reason than a dead file server."""
    if answer.error:
        return answer.reason == "timeout"
    reasons = answer.value.get("reasons", {}) if isinstance(answer.value, Mapping) else {}
    return any(reason == "timeout" and section not in _OFTEN_SLOW for section, reason in reasons.items())
