"""The last step in a headline: that of the rank that failed, else of its host, else of the run."""

from __future__ import annotations

import pytest

from fanout.diagnose.last_lines import StreamTail, find_last_reading


def build_tail(host: str, rank: int | None, step: int) -> StreamTail:
    return StreamTail(host=host, rank=rank, err=False, at=0.0, lines=((rank, f"step {step}/60 loss 1.5000"),))


@pytest.mark.parametrize(
    ("tails", "step"),
    [
        ([build_tail("a", 0, 18), build_tail("b", 1, 12), build_tail("b", 2, 15)], 12),
        ([build_tail("a", None, 18), build_tail("b", None, 12)], 12),
        ([build_tail("a", 0, 18)], 18),
    ],
    ids=["rank", "host", "run"],
)
def test_last_step_is_the_nearest_that_is_known(tails: list[StreamTail], step: int) -> None:
    reading = find_last_reading(tails, ("b",), (1,))
    assert reading is not None
    assert (reading.step, reading.total) == (step, 60)
