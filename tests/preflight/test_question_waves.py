"""Questions to many hosts: how many are asked together, and what happens to late answers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fanout.model.rpc import WAVE, ProbeAnswer, ProbeRequest
from fanout.preflight.question_waves import BatchedAsker, is_late


class Machine:
    """All hosts on one machine: an answer takes ``each`` seconds of it, and may be too late."""

    def __init__(self, each: float, *, always_late: frozenset[str] = frozenset()) -> None:
        self.now = 0.0
        self.waves: list[int] = []
        self._each = each
        self._always_late = always_late

    def clock(self) -> float:
        return self.now

    def ask(self, asks: Sequence[ProbeRequest]) -> list[ProbeAnswer]:
        self.waves.append(len(asks))
        took = self._each * len(asks)
        self.now += took
        return [
            ProbeAnswer(error="no answer in time", reason="timeout")
            if took > ask.timeout or ask.host in self._always_late
            else ProbeAnswer(value={})
            for ask in asks
        ]

    def is_still_open(self, host: str, handle: int) -> bool:
        raise AssertionError("nothing here lives on")

    def cancel(self, host: str, handle: int) -> None:
        raise AssertionError("nothing here lives on")


def ask_hosts(machine: Machine, count: int) -> tuple[list[ProbeAnswer], BatchedAsker]:
    waves = BatchedAsker(machine, clock=machine.clock)
    return waves.ask([ProbeRequest(host=f"h{number}", what="facts", timeout=15.0) for number in range(count)]), waves


@pytest.mark.parametrize(
    ("each", "count", "sizes"),
    [(0.01, WAVE, [WAVE]), (0.01, 240, [WAVE, 240 - WAVE]), (0.2, 3 * WAVE, [WAVE, WAVE, WAVE]), (0.0, 0, [])],
    ids=["few", "quick", "slow", "none"],
)
def test_the_first_wave_shows_how_many_may_be_asked_at_once(each: float, count: int, sizes: list[int]) -> None:
    machine = Machine(each)
    answers, waves = ask_hosts(machine, count)
    assert machine.waves == sizes
    assert [answer.error for answer in answers] == [""] * count
    assert waves.slow == ""


def test_late_majority_is_asked_again_in_small_waves() -> None:
    """24 at once take 48 s on a machine that has 15; four take 8."""
    machine = Machine(2.0)
    answers, waves = ask_hosts(machine, 60)
    assert [answer.error for answer in answers] == [""] * 60
    assert machine.waves == [24, *[4] * 6, *[4] * 9]
    assert waves.slow == "24 of 24 hosts answered too late when asked at once: asked again, 4 at a time"


def test_single_late_host_is_reported_as_late() -> None:
    machine = Machine(0.01, always_late=frozenset({"h7", "h8", "h9"}))
    answers, waves = ask_hosts(machine, 40)
    assert [at for at, answer in enumerate(answers) if answer.error] == [7, 8, 9]
    assert (machine.waves, waves.slow) == ([24, 16], "")


@pytest.mark.parametrize(
    ("reasons", "late"),
    [
        ({"software": "timeout"}, True),
        ({"files": "stuck"}, False),
        ({"reverse": "timeout"}, False),
        ({"gpu": "unavailable"}, False),
    ],
)
def test_late_section_may_have_its_own_cause(reasons: dict[str, str], late: bool) -> None:
    """A file server or a name server that is down does not make the machine slow."""
    assert is_late(ProbeAnswer(value={"reasons": reasons})) is late
