"""Progress of a run: steps over epochs and evaluations, and a time left only while it means something."""

from __future__ import annotations

import pytest

from fanout.logs.demux import LogLine
from fanout.logs.metric_line import MetricReading, read_metrics
from fanout.logs.metrics import MetricTracker
from fanout.logs.run_progress import RankPace, RankProgress, RunProgress, TimeLeft
from fanout.logs.step_counter import StepCounter


def read_line(text: str) -> MetricReading:
    reading = read_metrics(text)
    assert reading is not None, text
    return reading


def draw_bar(step: int, total: int, label: str = "", postfix: str = "") -> str:
    return f"{label}{100 * step // total:3}%|###   | {step}/{total} [00:01<00:09,  1.00it/s{postfix}]"


def count_steps(*lines: str) -> list[int | None]:
    counter = StepCounter()
    return [counter.count_step(read_line(line)) for line in lines]


def run_steps(
    progress: RunProgress, steps: range, *, total: int | None = 100, each: float = 2.0, host: str = "a"
) -> None:
    for at, step in enumerate(steps):
        progress.add_reading(MetricReading(step=step, total=total, loss=1.0), at * each, host)


def estimate_seconds(progress: RunProgress, now: float, ranks: RankProgress | None = None) -> float | None:
    left = progress.estimate_time_left(now, ranks)
    return left.seconds if left is not None and left.epoch is None else None


def test_the_bar_of_an_evaluation_inside_the_training_has_no_steps() -> None:
    bars = (
        [draw_bar(step, 100) for step in (9, 10)] + [draw_bar(step, 63) for step in (1, 40, 63)] + [draw_bar(11, 100)]
    )
    assert count_steps(*bars) == [9, 10, None, None, None, 11]


def test_a_bar_that_follows_a_finished_bar_is_counted() -> None:
    assert count_steps(draw_bar(63, 63), draw_bar(1, 100), draw_bar(2, 100)) == [63, 1, 2]


def test_a_bar_beside_a_loss_is_that_of_the_training() -> None:
    """The first bar was that of another task, which did not reach its end."""
    assert count_steps(draw_bar(7, 63), draw_bar(1, 100), "{'loss': 2.0, 'epoch': 0.1}", draw_bar(2, 100)) == [
        7,
        None,
        None,
        2,
    ]


def test_epochs_continue_the_count() -> None:
    named = [draw_bar(step, 40, f"Epoch {epoch}: ") for epoch in (0, 1) for step in (1, 40)]
    assert count_steps(*named) == [1, 40, 41, 80]
    unnamed = [draw_bar(step, 40, "", ", loss=1.0") for _ in range(2) for step in (1, 40)]
    assert count_steps(*unnamed) == [1, 40, 41, 80]


def test_a_restart_from_a_checkpoint_begins_at_its_step() -> None:
    assert count_steps("step 90/100 loss 1.0", "step 50/100 loss 1.0", "step 51/100 loss 1.0") == [90, 50, 51]


def test_the_time_left_follows_from_the_pace_and_becomes_less() -> None:
    progress = RunProgress()
    assert progress.estimate_time_left(0.0) is None
    run_steps(progress, range(0, 50, 10))
    assert estimate_seconds(progress, 8.0) == pytest.approx(12.0)
    assert estimate_seconds(progress, 11.0) == pytest.approx(9.0)


def test_no_time_is_left_after_two_steps_or_without_a_total() -> None:
    progress = RunProgress()
    run_steps(progress, range(2))
    assert progress.estimate_time_left(2.0) is None
    progress = RunProgress()
    run_steps(progress, range(50), total=None)
    assert progress.estimate_time_left(100.0) is None


def test_no_time_is_left_while_no_step_follows() -> None:
    """During a hang or an evaluation, the pace does not show the end."""
    progress = RunProgress()
    run_steps(progress, range(10))
    assert progress.estimate_time_left(18.0 + 19.0) is not None
    assert progress.estimate_time_left(18.0 + 21.0) is None
    rare = RunProgress()
    run_steps(rare, range(0, 50, 10), each=60.0)
    assert rare.estimate_time_left(240.0 + 200.0) is not None


def test_no_time_is_left_after_the_steps_began_again() -> None:
    progress = RunProgress()
    run_steps(progress, range(0, 50, 10))
    progress.add_reading(MetricReading(step=0, total=100), 20.0, "a")
    assert progress.estimate_time_left(20.0) is None


def test_the_slowest_host_decides_the_time_left() -> None:
    progress = RunProgress()
    run_steps(progress, range(0, 40, 10), each=2.0, host="a")
    run_steps(progress, range(0, 40, 10), each=4.0, host="b")
    assert estimate_seconds(progress, 12.0) == pytest.approx(28.0)


def test_the_slowest_rank_decides_the_time_left() -> None:
    progress = RunProgress()
    run_steps(progress, range(0, 50, 10))
    ranks = RankProgress(paces=[RankPace(8.0, 40, 0.2), RankPace(8.0, 20, 0.4)])
    assert estimate_seconds(progress, 8.0, ranks) == pytest.approx(32.0)
    ended = RankProgress(paces=[RankPace(-90.0, 2, 0.4)])
    assert estimate_seconds(progress, 8.0, ended) == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("label", "left"),
    [
        ("Epoch {}: ", TimeLeft(20.0, 1)),  # the number of epochs is not known
        ("Epoch {}/4: ", TimeLeft(140.0)),  # epochs 2, 3 and 4 follow
    ],
)
def test_a_bar_of_one_epoch_gives_the_time_left_of_the_run_only_if_it_names_the_epochs(
    label: str, left: TimeLeft
) -> None:
    progress = RunProgress()
    for step in range(1, 21):
        progress.add_reading(read_line(draw_bar(step, 40, label.format(1), ", loss=1.0")), float(step), "a")
    found = progress.estimate_time_left(20.0)
    assert found is not None
    assert found.seconds == pytest.approx(left.seconds)
    assert found.epoch == left.epoch


def test_a_time_that_a_line_states_is_used_without_a_total() -> None:
    progress = RunProgress()
    progress.add_reading(read_line("step 5 | loss 2.0 | eta: 1h 2m"), 10.0, "a")
    assert estimate_seconds(progress, 20.0) == pytest.approx(3710.0)
    assert progress.estimate_time_left(10.0 + 3000.0) is None


def test_the_loss_is_that_of_the_first_host_of_the_hostfile_that_prints_one() -> None:
    """At first, the first host draws only a bar, and rank 8 on the second prints the loss."""
    tracker = MetricTracker(hosts=("a", "b"))
    tracker.add_lines([LogLine("a", 1, "a:0", "bar", draw_bar(7, 90), 0, 0)], 1.0)
    tracker.add_lines([LogLine("b", 1, "b:8", "line", "step 7 loss 2.5", 0, 8)], 1.1)
    assert (tracker.run_progress.loss, tracker.run_progress.loss_host) == (2.5, "b")
    tracker.add_lines([LogLine("a", 1, "a:0", "line", "step 8 loss 2.25", 0, 0)], 2.0)
    tracker.add_lines([LogLine("b", 1, "b:8", "line", "step 8 loss 2.4", 0, 8)], 2.1)
    progress = tracker.run_progress
    assert (progress.loss, progress.loss_host, progress.step, progress.total) == (2.25, "a", 8, 90)


def test_a_bar_inside_the_training_leaves_the_steps_of_a_host() -> None:
    tracker = MetricTracker()
    for at, (step, total) in enumerate([(9, 100), (10, 100), (1, 63), (50, 63)]):
        tracker.add_bars({"a": draw_bar(step, total)}, float(at))
    assert (tracker.host_readings["a"].step, tracker.run_progress.total) == (10, 100)
