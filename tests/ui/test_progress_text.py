"""Progress in words: the step of a run or of an epoch, the speed, and the time left."""

from __future__ import annotations

import pytest

from fanout.logs.metric_line import read_metrics
from fanout.logs.run_progress import RunProgress, TimeLeft
from fanout.ui.progress_text import describe_figures, describe_steps, describe_time_left


@pytest.mark.parametrize(
    ("line", "steps", "figures"),
    [
        ("step 45/100 loss 2.5 tok/s 38000", "step 45/100", ["38.0k tok/s"]),
        ("step 45 loss 2.5", "step 45", []),
        ("Epoch 2/5:  45%|####   | 45/100 [00:05<00:06,  8.50it/s, loss=2.3]", "epoch 2 step 45/100", []),
        ("steps: 10 loss: 2.3456 iter time (s): 1.234 samples/sec: 25.932", "step 10", ["25.93 samples/s"]),
        ("{'loss': 2.5, 'epoch': 0.1}", None, []),
    ],
)
def test_a_line_gives_the_words_of_the_progress(line: str, steps: str | None, figures: list[str]) -> None:
    progress, reading = RunProgress(), read_metrics(line)
    assert reading is not None
    progress.add_reading(reading, 1.0, "a")
    assert describe_steps(progress) == steps
    assert describe_figures(progress) == figures


def test_the_time_left_names_the_epoch_if_it_is_only_that_of_the_epoch() -> None:
    assert describe_time_left(TimeLeft(723.0)) == "12 min 3 s left"
    assert describe_time_left(TimeLeft(20.0, 3)) == "20 s left in epoch 3"
