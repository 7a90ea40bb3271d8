"""Metric lines: read step, loss, speed, step time and time left from one log line of any training library.

The line is split at its numbers. The texts between them decide what each number is (``line_layout``). The lines of one
program have the same texts, so their layouts are kept. A line of an evaluation, of a data set or of a download has no
metrics, and neither has a header such as ``Total optimization steps = 500``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field

from fanout.logs.line_layout import LineLayout, find_layout, parse_count
from fanout.logs.number_roles import Role
from fanout.model.frozen import frozen
from fanout.text.sanitize import strip_escapes

LONGEST = 16_384  # characters of a line that are read
MOST_NUMBERS = 512
LAYOUTS = 512  # that are kept
LONGEST_STEP = 1e9  # a larger time of a step, or number of steps a second, is an error
# The first character comes first, because a search for it is fast. Then the character before it is tested.
_START = r"(?<![\w.-].)(?:(?<=\d)|(?=\d))"
_DIGITS = (
    r"(?:\d{0,3}(?::\d\d){1,3}(?:\.\d{1,9})?|\d{0,2}(?:,\d{3}){1,6}(?!\d|,\d)(?:\.\d{1,18})?"
    r"|\d*(?!\d)(?:\.\d{1,18}(?!\d)|\.(?!\w))?(?:[eE][-+]?\d{1,3}(?!\d))?)(?!\.\d)"
)
_NAMED = r"(?:(?<=[:=→].)|(?<=[:=→][ '\"(\[].)|(?<=[:=→] ['\"(\[].)|(?<=[Ll][Oo][Ss][Ss] .))"
_NAN = r"(?:(?<=-)[nN]|(?<=[nN]))[aA][nN]\b|(?:(?<=-)[iI]|(?<=[iI]))[nN][fF]\b"
_NUMBER = re.compile(rf"([-+\d]{_START}{_DIGITS})")
_NUMBER_OR_NAN = re.compile(rf"([-+\dniNI](?:{_START}{_DIGITS}|{_NAMED}(?:{_NAN})))")
_BAR = re.compile(r"%\|[^|]{0,500}\|")
_DURATION = re.compile(
    r"(?:(?P<d>\d{1,5}(?:\.\d{1,3})?)\s?d(?:ays?)?,?\s?)?"
    r"(?:(?P<clock>\d{1,4}(?::\d\d){1,2})(?![\d:])"
    r"|(?:(?P<h>\d{1,6}(?:\.\d{1,3})?)\s?h(?:ours?|rs?)?(?![a-z])\s?)?(?:(?P<m>\d{1,6}(?:\.\d{1,3})?)\s?m(?:in(?:ute)?s?)?(?![a-z])\s?)?"
    r"(?:(?P<s>\d{1,9}(?:\.\d{1,6})?)\s?s(?:ec(?:ond)?s?)?(?![a-z]))?)"
)
_layouts: dict[tuple[str, ...], LineLayout] = {}


@frozen
class MetricReading:
    """Metrics of one line; a missing metric is None."""

    step: int | None = None
    total: int | None = None
    loss: float | None = None
    speed: float | None = None  # tokens a second
    samples: float | None = None  # samples a second
    step_time: float | None = None  # seconds
    seconds_left: float | None = None  # as the line states it
    epoch: float | None = None
    epochs: int | None = None
    others: Mapping[str, float] = field(default_factory=dict)  # further groups of the user's pattern
    is_bar: bool = False  # the step is the count of a progress bar
    counts_epoch: bool = False  # step and total count the batches of one epoch, not those of the run


def may_have_metrics(text: str) -> bool:
    """Return whether the text may contain metrics; a fast test."""
    low = text.lower()
    return (
        "loss" in low
        or "step" in low
        or "%|" in low
        or "iter" in low
        or "tok" in low
        or "epoch" in low
        or "batch" in low
        or "tps" in low
    )


def read_metrics(text: str) -> MetricReading | None:
    """Return all metrics of a line, also an epoch alone; None if it has none."""
    if not may_have_metrics(text):
        return None
    parts = _split_line(text)
    shape = tuple(parts[::2])
    layout = _layouts.get(shape)
    if layout is not None:
        try:
            return _read_values(parts, layout)
        except ValueError:
            return _read_values(parts, find_layout(parts))  # a number has another form than in the first such line
    layout = find_layout(parts)
    if layout.is_fixed:
        if len(_layouts) >= LAYOUTS:
            _layouts.clear()
        _layouts[shape] = layout
    return _read_values(parts, layout)


def _split_line(text: str) -> list[str]:
    """Return the texts and the numbers of a line in turn."""
    text = text[:LONGEST]
    if "\x1b" in text:
        text = strip_escapes(text)
    if "%|" in text:
        text = _BAR.sub("%|#|", text)  # a bar without Unicode has digits: ``45%|####5     |``
    low = text.lower()
    pattern = _NUMBER_OR_NAN if "nan" in low or "inf" in low else _NUMBER
    return pattern.split(text, maxsplit=MOST_NUMBERS)


def _read_values(parts: Sequence[str], layout: LineLayout) -> MetricReading | None:
    """Return the metrics at the places of the layout; raise ValueError if a number does not have the form that it needs."""
    step, total, loss, speed, scale, samples, step_time, unit, left, epoch, epochs, is_bar, _ = layout
    if not (step or loss or speed or epoch):
        return None
    return MetricReading(
        step=_read_count(parts[step]) if step else None,
        total=_read_count(parts[total]) if total else None,
        loss=_read_number(parts[loss]) if loss else None,
        speed=_read_number(parts[speed]) * scale if speed else None,
        samples=_read_number(parts[samples]) if samples else None,
        step_time=_read_step_time(parts[step_time], unit) if step_time else None,
        seconds_left=_read_duration("".join(parts[left : left + 8])) if left else None,
        epoch=_read_number(parts[epoch]) if epoch else None,
        epochs=_read_count(parts[epochs]) if epochs else None,
        is_bar=is_bar,
        counts_epoch=bool(total) and 0 < epoch < step and parts[epoch].isdigit(),
    )


def _read_count(text: str) -> int:
    count = parse_count(text)
    if count is None:
        raise ValueError(text)
    return count


def _read_number(text: str) -> float:
    return float(text.replace(",", "") if "," in text else text)


def _read_step_time(text: str, unit: Role) -> float | None:
    value = _read_number(text)
    if not 0 < value < LONGEST_STEP:
        return None
    if unit is Role.STEPS_PER_SECOND:
        return 1 / value
    return value / 1000 if unit is Role.STEP_MILLISECONDS else value


def _read_duration(text: str) -> float | None:
    """Return the seconds of ``1:02:03``, ``16m 30s``, ``176.7m`` or ``1 day, 2:03:04``; None if it has no unit."""
    match = _DURATION.match(text)
    if match is None or not match[0]:
        return None
    seconds = 0.0
    for part in (match["clock"] or "0").split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + sum(
        float(match[name] or 0) * size for name, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    )


def parse_line(text: str, metric: re.Pattern[str] | None = None) -> MetricReading | None:
    """Return the metrics of a line that has a step, a loss or a speed; otherwise None. A user's pattern replaces all forms."""
    if metric is not None:
        return _parse_with_pattern(metric, text)
    found = read_metrics(text)
    if found is None or (found.step is None and found.loss is None and found.speed is None):
        return None
    return found


def parse_step(text: str) -> int | None:
    """Return the step number of a line; None if it has none."""
    found = read_metrics(text)
    return found.step if found is not None else None


def parse_growing_number(text: str) -> float | None:
    """Return a number that grows while the training continues: the step of a line, else its epoch; None without both."""
    found = read_metrics(text)
    return None if found is None else found.epoch if found.step is None else float(found.step)


def _parse_with_pattern(metric: re.Pattern[str], text: str) -> MetricReading | None:
    """Parse the metrics with the user's pattern, by group names; a single unnamed group is the loss."""
    match = metric.search(text)
    if match is None:
        return None
    groups = match.groupdict() or {"loss": match[1]}
    try:
        values = {name: float(value.replace(",", "")) for name, value in groups.items() if value}
        step, total = (int(values[name]) if name in values else None for name in ("step", "total"))
    except (ValueError, OverflowError):
        return None  # the match is not a number
    if not values:
        return None
    others = {name: value for name, value in values.items() if name not in ("step", "total", "loss", "speed")}
    return MetricReading(step=step, total=total, loss=values.get("loss"), speed=values.get("speed"), others=others)
