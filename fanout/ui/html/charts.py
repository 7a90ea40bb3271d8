"""Curves of the metrics of all ranks for the HTML page. Pure.

Ranks with equal values share a curve. Many different ranks give a few curves and a band from minimum to maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from fanout.logs.rank_prefix import parse_stream_rank
from fanout.ui.html.timeline import Curve, StreamTimeline

MAX_CURVES = 8  # curves per metric: that of the first rank, and those of a few others
BAND = 120  # points in time of a band
METRIC_UNITS = {"speed": "tokens/s"}
_FIRST = ("loss", "speed", "step")  # before the groups of the user's pattern


def build_curves(streams: Sequence[StreamTimeline], label: Callable[[tuple[int, ...]], str]) -> list[dict[str, Any]]:
    """Return one JSON value per metric of any stream; ``label`` returns the label for stream numbers."""
    found = []
    for name, curves in _iter_metrics(streams):
        groups = sorted(
            _group_equal_curves(curves),
            key=lambda who: min((get_rank_order(streams[number].name), number) for number in who),
        )
        series = [{"who": label(who), "points": curves[who[0]].get_points()} for who in groups[:MAX_CURVES]]
        band = _compute_band([curve.get_points() for curve in curves.values()]) if len(groups) > MAX_CURVES else []
        found.append(
            {"name": name, "unit": METRIC_UNITS.get(name, ""), "series": series, "of": len(curves), "band": band}
        )
    return found


def get_rank_order(name: str) -> float:
    """Return the global rank in the name of a stream; other streams get infinity, so that they sort last."""
    rank = parse_stream_rank(name)
    return float("inf") if rank is None else rank


def _iter_metrics(streams: Sequence[StreamTimeline]) -> Iterator[tuple[str, dict[int, Curve]]]:
    """Yield (name of a metric, stream -> its curve), for curves with more than one point."""
    others = dict.fromkeys(name for stream in streams for name in stream.others)
    for name in (*_FIRST, *others):
        curves = {
            number: curve for number, stream in enumerate(streams) if (curve := _get_curve(stream, name)) is not None
        }
        if curves:
            yield name, curves


def _get_curve(stream: StreamTimeline, name: str) -> Curve | None:
    known = {"loss": stream.loss, "speed": stream.speed, "step": stream.steps}
    curve = known[name] if name in known else stream.others.get(name)
    return curve if curve is not None and len(curve.points) > 1 else None


def _group_equal_curves(curves: Mapping[int, Curve]) -> list[tuple[int, ...]]:
    """Group streams with equal values, in the order of their numbers; a stream that is one line behind is still equal."""
    groups: dict[tuple[float, ...], list[int]] = {}
    shortest = min(len(curve.points) for curve in curves.values())
    for number, curve in curves.items():
        groups.setdefault(tuple(value for _, value in curve.points[: max(2, shortest)]), []).append(number)
    return [tuple(who) for who in groups.values()]


def _compute_band(lines: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float, float, float]]:
    """Return (time, minimum, median, maximum) over all lines, at no more than BAND points in time."""
    end = max(line[-1][0] for line in lines)
    slots: dict[int, list[float]] = {}
    for line in lines:
        newest = {min(BAND - 1, int(at / end * BAND)) if end > 0 else 0: value for at, value in line}
        for slot, value in newest.items():
            slots.setdefault(slot, []).append(value)
    return [
        (round((slot + 0.5) * end / BAND, 3), min(values), median(values), max(values))
        for slot, values in sorted(slots.items())
    ]
