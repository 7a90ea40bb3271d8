"""Progress text: describe the steps, the speed and the time left of a run in words. Pure."""

from __future__ import annotations

from fanout.logs.run_progress import RunProgress, TimeLeft
from fanout.text.units import format_count, format_duration


def describe_steps(progress: RunProgress) -> str | None:
    """Return ``step 45/100``, or ``epoch 2 step 45/100`` if the steps are those of one epoch; None without a step."""
    newest = progress.newest
    if newest is None:
        return None
    epoch = f"epoch {newest.epoch:.0f} " if newest.counts_epoch and newest.epoch is not None else ""
    return f"{epoch}step {newest.step}" + (f"/{progress.total}" if progress.total else "")


def describe_figures(progress: RunProgress) -> list[str]:
    """Return the speed, and the metrics of the user's pattern."""
    texts = [f"{name} {value:.4g}" for name, value in progress.others.items()]
    if progress.speed is not None:
        return [f"{format_count(progress.speed)} tok/s", *texts]
    return [f"{progress.samples:.4g} samples/s", *texts] if progress.samples is not None else texts


def describe_time_left(left: TimeLeft) -> str:
    """Return ``12 min 3 s left``, with the epoch if it is not the time left of the whole run."""
    return f"{format_duration(left.seconds)} left" + (f" in epoch {left.epoch}" if left.epoch is not None else "")
