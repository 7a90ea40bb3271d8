"""The last step that a verdict states is that of the rank that failed, if the log has it."""

from __future__ import annotations

import pytest

from tests.diagnose.kit import Run, verdict


@pytest.mark.parametrize(("each", "step"), [(1, 12), (2, 18)])
def test_lines_without_a_rank_belong_to_the_only_rank_of_their_host(each: int, step: int) -> None:
    """With several ranks on a host, its lines may come from any of them, so the last step is that of the run."""
    run = Run(each=each)
    run.out(0, "step 18/60 loss 3.1")
    if each == 1:
        run.out(1, "step 12/60 loss 3.1")
    cause = verdict(run.raises(2 * each - 1, "ValueError: bad sample"), each=each).cause
    assert cause is not None
    assert (cause.rank, cause.step, cause.total_steps) == (2 * each - 1, step, 60)
