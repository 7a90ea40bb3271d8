"""The figures of all ranks as curves that a person can look at: ranks that say the same are one curve, and of many that
differ a few are drawn before a band from the least to the greatest. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from fanout.views.course import Curve, StreamCourse

DRAWN = 8  # curves of a kind: the first rank's, and those of a few others
BAND = 120  # moments of a band
UNITS = {"speed": "tokens/s"}
_FIRST = ("loss", "speed", "step")  # before what a pattern of the user's names


def curves(streams: Sequence[StreamCourse], label: Callable[[tuple[int, ...]], str]) -> list[dict[str, Any]]:
    """A value for each kind of figure that any stream tells; ``label`` names who says it, by their numbers."""
    found = []
    for name, told in _kinds(streams):
        groups = sorted(_folded(told), key=lambda who: min((rank_of(streams[number].name), number) for number in who))
        series = [{"who": label(who), "points": told[who[0]].whole()} for who in groups[:DRAWN]]
        band = _band([curve.whole() for curve in told.values()]) if len(groups) > DRAWN else []
        found.append({"name": name, "unit": UNITS.get(name, ""), "series": series, "of": len(told), "band": band})
    return found


def rank_of(name: str) -> int:
    """The global rank in a stream's name; streams that are no rank's come last."""
    words = name.split()
    return int(words[1]) if len(words) > 1 and words[0] == "rank" and words[1].isdecimal() else 1 << 30


def _kinds(streams: Sequence[StreamCourse]) -> Iterator[tuple[str, dict[int, Curve]]]:
    """(name of a figure, stream -> its curve), of those with more than one point."""
    others = dict.fromkeys(name for stream in streams for name in stream.others)
    for name in (*_FIRST, *others):
        told = {number: curve for number, stream in enumerate(streams) if (curve := _of(stream, name)) is not None}
        if told:
            yield name, told


def _of(stream: StreamCourse, name: str) -> Curve | None:
    known = {"loss": stream.loss, "speed": stream.speed, "step": stream.steps}
    curve = known[name] if name in known else stream.others.get(name)
    return curve if curve is not None and len(curve.points) > 1 else None


def _folded(told: Mapping[int, Curve]) -> list[tuple[int, ...]]:
    """Streams with the same values, in the order of their numbers; one that is a line behind is still the same."""
    groups: dict[tuple[float, ...], list[int]] = {}
    shortest = min(len(curve.points) for curve in told.values())
    for number, curve in told.items():
        groups.setdefault(tuple(value for _, value in curve.points[: max(2, shortest)]), []).append(number)
    return [tuple(who) for who in groups.values()]


def _band(lines: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float, float, float]]:
    """(when, least, middle, greatest) over all lines, at no more than BAND moments."""
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
