"""The ranks of hosts whose logs have no report of torchrun: they follow from the ranks that wrote lines."""

from __future__ import annotations

import pytest

from fanout.diagnose.evidence import Evidence
from fanout.diagnose.world import add_equal_blocks


@pytest.mark.parametrize(
    ("logged", "known", "expected"),
    [
        ({"a": {0, 1}, "b": {2}}, {}, {"a": range(2), "b": range(2, 4)}),
        ({"a": {0}, "b": {1}, "c": set()}, {}, {"a": range(1), "b": range(1, 2), "c": range(2, 3)}),
        ({"a": {2, 3}, "b": {0, 1}}, {}, {"b": range(2), "a": range(2, 4)}),
        ({"a": {0}, "b": {8}}, {}, {}),
        ({"a": {0}, "b": {8}}, {"b": range(8, 9)}, {"a": range(8), "b": range(8, 16)}),
        ({"a": {0, 1, 2, 4}}, {}, {"a": range(5)}),
        ({"a": {0}}, {}, {}),
        ({"a": set(), "b": set()}, {}, {}),
    ],
)
def test_equal_blocks_are_found_only_if_one_number_is_possible(
    logged: dict[str, set[int]], known: dict[str, range], expected: dict[str, range]
) -> None:
    evidence = Evidence(
        hosts=tuple(logged), logged={host: frozenset(ranks) for host, ranks in logged.items()}, live=False
    )
    assert add_equal_blocks(dict(known), evidence) == (expected or known)
