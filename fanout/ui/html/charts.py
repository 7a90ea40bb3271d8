"""Curves of metrics and load for the HTML page. Pure.

Ranks with equal values share a curve. Many different ranks give a few curves and a band from minimum to maximum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from fanout.model.hosts import fold_names
from fanout.ui.html.timeline import LOAD_UNITS, Curve, HostTimeline, Point, StreamTimeline

MAX_CURVES = 8  # curves per chart without a band
OUTLIERS = 4  # curves over a band, besides that of the first rank: those that are furthest from the median
LONGEST_LABEL = 32  # characters
BAND = 120  # points in time of a band
METRIC_UNITS = {"speed": "tokens/s"}
_FIRST = ("loss", "speed", "step")  # before the groups of the user's pattern
_Label = Callable[[tuple[int, ...]], str]
_Band = Sequence[tuple[float, float, float, float]]


def build_metric_charts(streams: Sequence[StreamTimeline], label: _Label) -> list[dict[str, Any]]:
    """Return one JSON value per metric of any stream; ``label`` returns the label for stream numbers."""

    def get_order(number: int) -> tuple[float, int]:
        """Return the place of a stream: ranks in their order, then the other streams."""
        rank = streams[number].rank
        return float("inf") if rank is None else rank, number

    return [
        _build_chart(name, METRIC_UNITS.get(name, ""), curves, label, get_order)
        for name, curves in _iter_metrics(streams)
    ]


def build_load_charts(hosts: Sequence[HostTimeline]) -> list[dict[str, Any]]:
    """Return one JSON value per kind of load that any host reported."""

    def label(who: tuple[int, ...]) -> str:
        return fold_names(hosts[number].name for number in who)

    charts = []
    for name, unit in LOAD_UNITS.items():
        curves = {number: host.load[name] for number, host in enumerate(hosts) if name in host.load}
        if curves:
            charts.append(
                _build_chart(name, unit, curves, label, lambda number: (number, number))
                | {"bounds": [0, 100] if unit == "%" else [0, None]}
            )
    return charts


def _build_chart(
    name: str,
    unit: str,
    curves: Mapping[int, Curve],
    label: _Label,
    get_order: Callable[[int], tuple[float, int]],
) -> dict[str, Any]:
    points = {number: curve.get_points() for number, curve in curves.items()}
    groups = sorted(_group_equal_curves(curves), key=lambda who: min(map(get_order, who)))
    band: _Band = []
    if len(groups) > MAX_CURVES:
        end = max(line[-1][0] for line in points.values()) or 1.0
        slots = {who: _fill_slots(points[who[0]], end) for who in groups}
        band = _compute_band([(slots[who], len(who)) for who in groups], end)
        groups = _select_groups(groups, slots, band)
    return {
        "name": name,
        "unit": unit,
        "of": len(curves),
        "band": band,
        "series": [{"who": _shorten_label(who, label), "points": points[who[0]]} for who in groups],
    }


def _shorten_label(who: tuple[int, ...], label: _Label) -> str:
    """Return the label of a group; of many ranks that no short text names, only the first one and their number."""
    whole = label(who)
    return whole if len(whole) <= LONGEST_LABEL else f"{label(who[:1])} and {len(who) - 1} others"


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
    groups: dict[tuple[float | None, ...], list[int]] = {}
    shortest = max(2, min(len(curve.points) for curve in curves.values()))
    for number, curve in curves.items():
        groups.setdefault(tuple(value for _, value in curve.points[:shortest]), []).append(number)
    return [tuple(who) for who in groups.values()]


def _fill_slots(points: Sequence[Point], end: float) -> dict[int, float]:
    """Return the last finite value of a curve in each of BAND equal parts of the time."""
    return {min(BAND - 1, int(at / end * BAND)): value for at, value in points if value is not None}


def _compute_band(slots: Sequence[tuple[Mapping[int, float], int]], end: float) -> _Band:
    """Return (time, minimum, median, maximum) over all curves; each is given with the number of its streams."""
    values: dict[int, list[float]] = {}
    for filled, count in slots:
        for slot, value in filled.items():
            values.setdefault(slot, []).extend([value] * count)
    return [
        (round((slot + 0.5) * end / BAND, 3), min(found), median(found), max(found))
        for slot, found in sorted(values.items())
    ]


def _select_groups(
    groups: Sequence[tuple[int, ...]], slots: Mapping[tuple[int, ...], Mapping[int, float]], band: _Band
) -> list[tuple[int, ...]]:
    """Return the first group and those that are furthest from the median, in order."""
    middle = dict(zip(sorted({slot for filled in slots.values() for slot in filled}), band, strict=True))

    def measure_distance(who: tuple[int, ...]) -> float:
        filled = slots[who]
        return fmean(abs(value - middle[slot][2]) for slot, value in filled.items()) if filled else float("inf")

    furthest = sorted(groups[1:], key=measure_distance, reverse=True)[:OUTLIERS]
    return [who for who in groups if who == groups[0] or who in furthest]
