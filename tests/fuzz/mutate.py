"""Mutations of JSON values and lists of messages, drawn from a seeded generator. Pure."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

Path = tuple[Any, ...]


def _build_nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


STRANGE: tuple[Any, ...] = (
    None, "x", "", 5, -1, 0, True, [], {}, [1], [[]], {"a": 1}, [None], 2**40, 2**63, -(2**63) - 1, 10**400, 1e308, 1.5,
    float("nan"), float("inf"), "\ud800", "\udcff/x", "\x1b[2J", "a\nb\0c", "x" * 300_000, _build_nested(30), _build_nested(200),
    "999.1.1.1/99", "::/200", "0" * 5000, "1e999", ["x"] * 50_000, {str(number): [] for number in range(20_000)},
)  # fmt: skip
LARGE = 6  # how many of them are costly: they are drawn less often


def list_paths(value: Any, here: Path = ()) -> Iterator[Path]:
    """Return the path of each part of a value, the value itself included."""
    yield here
    if isinstance(value, dict):
        for key, item in value.items():
            yield from list_paths(item, (*here, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from list_paths(item, (*here, number))


def mutate_value(value: Any, chance: random.Random, places: list[Path]) -> Any:
    """Return a copy of ``value`` with one to three parts changed; ``places`` are ``list_paths`` of it."""
    changed = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        changed = _change_part(changed, chance.choice(places), chance)
    return changed


def _change_part(value: Any, path: Path, chance: random.Random) -> Any:
    if not path:
        return chance.choice(STRANGE[:-LARGE]) if chance.random() < 0.02 else value
    place = value
    for step in path[:-1]:
        if (isinstance(place, dict) and step in place) or (
            isinstance(place, list) and isinstance(step, int) and step < len(place)
        ):
            place = place[step]
        else:
            return value  # another change has removed it
    last = path[-1]
    if isinstance(place, list) and (not isinstance(last, int) or last >= len(place)):
        return value
    if not isinstance(place, (dict, list)):
        return value
    kind = chance.random()
    if kind < 0.15 and (isinstance(place, list) or last in place):
        del place[last]
    elif kind < 0.2 and isinstance(place, list):
        place.extend(place[:50])
    else:
        place[last] = copy.deepcopy(chance.choice(STRANGE if chance.random() < 0.02 else STRANGE[:-LARGE]))
    return value


def mutate_bytes(data: bytes, chance: random.Random) -> bytes:
    """Return bytes of a file with some changed, left out or repeated, or the end cut off."""
    if not data:
        return b"\xff"
    at, upto = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    kind = chance.randrange(5)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes(chance.randrange(256) for _ in range(8)) + data[at + 8 :]
    if kind == 2:
        return data[:at] + data[upto:]
    if kind == 3:
        return data[:upto] + data[at:]
    return data[:at] + json.dumps(chance.choice(STRANGE[:-LARGE])).encode() + data[at:]
