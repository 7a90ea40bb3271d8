"""Ranges of numbers: one parser for ranks, GPUs, ports and the numbers in names of hosts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.model.hosts import fold_numbers
from fanout.text.parse_ranges import NumberRange, parse_range, parse_ranges


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3", [3]), ("0-3", [0, 1, 2, 3]), ("0,2-3", [0, 2, 3]), (" 0 , 2 - 3 ", [0, 2, 3]), ("0-8/4", [0, 4, 8]),
        ("08-09", [8, 9]), ("", None), ("0,", None), ("3-0", None), ("0-4/0", None), ("a", None), ("-1", None), ("\u0663", None),
    ],
)  # fmt: skip
def test_ranges_are_numbers_with_commas_and_dashes(text: str, numbers: list[int] | None) -> None:
    ranges = parse_ranges(text)
    assert (None if ranges is None else [number for part in ranges for number in part]) == numbers


def test_a_range_keeps_its_digits_for_padded_names() -> None:
    assert parse_range("01-16/5") == NumberRange("01", "16", 5)
    assert parse_range("1-") is None


@given(st.sets(st.integers(0, 10_000), min_size=1, max_size=30))
def test_folded_numbers_can_be_typed_again(numbers: set[int]) -> None:
    ranges = parse_ranges(fold_numbers(numbers))
    assert ranges is not None
    assert {number for part in ranges for number in part} == numbers
