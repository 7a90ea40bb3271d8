"""Clock errors: times that are wrong by less than the clock error never make an innocent rank guilty."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.model.events import Event, HostEvent
from tests.diagnose.cases import CASES, ONE_A_HOST
from tests.diagnose.kit import Run, verdict
from tests.histories import History

ERROR = 0.25
SHIFTS = st.lists(st.floats(-ERROR / 2, ERROR / 2), min_size=4, max_size=4)


def shift_clocks(run: History, shifts: list[float]) -> History:
    """Shift every host's clock a little; return the events in their apparent order."""
    by_host = dict(zip(run.hosts, shifts, strict=False))

    def moved(event: Event) -> Event:
        return replace(event, at=event.at + by_host[event.host]) if isinstance(event, HostEvent) else event

    out = History(*run.hosts)
    out.events = sorted((moved(event) for event in run.events), key=lambda event: event.at)
    return out


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=15, deadline=None)
@given(shifts=SHIFTS)
def test_the_guilty_rank_stays_among_the_named_ones(name: str, shifts: list[float]) -> None:
    make, (_, host, rank, confidence) = CASES[name]
    found = verdict(shift_clocks(make(), shifts), each=1 if name in ONE_A_HOST else 2)
    assert found.cause is not None
    assert (host, rank) in [(each.host, each.rank) for each in (found.cause, *found.also)] or (
        name == "missing everywhere" and found.cause.ranks == (0, 1, 2, 3)
    )
    if confidence != "high":
        assert found.confidence != "high"


@settings(max_examples=60, deadline=None)
@given(
    gap=st.floats(0.0, 3.0),
    shifts=SHIFTS,
    victim_says=st.sampled_from(["RuntimeError: unknown words", "AssertionError", "MyError: the other went away"]),
)
def test_an_unknown_error_of_a_victim_is_never_blamed_with_high_confidence(
    gap: float, shifts: list[float], victim_says: str
) -> None:
    """Rank 2 is killed, and rank 0 suffers with an unknown text: only the right rank is named with high confidence."""
    run = Run().raises(0, victim_says).torchrun("gpu01", (0, 1), (1, -15), after=0.3)
    run.torchrun("gpu02", (2, -9), (3, -15), after=max(0.0, gap - 0.3))
    found = verdict(shift_clocks(run, shifts))
    assert found.cause is not None
    assert found.cause.rank == 2 or found.confidence != "high" or gap + ERROR >= 3.0
