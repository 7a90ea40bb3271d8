"""Sizes and durations that a user types."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.model.settings import merge_settings
from fanout.record.retention import parse_bounds
from fanout.text.parse_units import parse_duration, parse_size, write_duration, write_size
from fanout.text.units import format_duration


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("812", 812), ("812B", 812), ("4G", 4 * 10**9), ("4GB", 4 * 10**9), ("4gb", 4 * 10**9),
        ("4GiB", 4 << 30), ("4Gi", 4 << 30), ("1.5 kB", 1500), ("2T", 2 * 10**12), ("", None), ("G", None), ("-1G", None),
        ("4GG", None), ("4i", None), ("4iB", None), ("1e9", None), ("nan", None), ("9" * 41, None), ("\u0664G", None), ("4\u212a", None),
    ],
)  # fmt: skip
def test_a_size_has_powers_of_1000_unless_it_is_written_with_i(text: str, size: int | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("unit", ["M", "G", "T"])
def test_a_letter_equals_the_letter_with_b_in_every_option(unit: str) -> None:
    texts = (f"40{unit}", f"40{unit}B")
    plans = {merge_settings({}, {"FANOUT_SPOOL_LIMIT": text}, []).settings.spool_limit for text in texts}
    assert plans == {parse_bounds(text).bytes for text in texts} == {parse_size(texts[0])}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), ("90s", 90), ("1.5h", 5400), ("10m", 600), ("10min", 600), ("1h30m", 5400), ("1d 2h", 93600),
        ("2w", 1209600), ("2W", 1209600), ("1h30", 3630), ("", None), ("m", None), ("30m1h", None), ("5M", None), ("5x", None),
        ("-3s", None), ("9" * 41, None),
    ],
)  # fmt: skip
def test_a_duration_has_its_units_from_large_to_small(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@given(st.integers(10, 10**8))
def test_a_printed_duration_can_be_typed(seconds: int) -> None:
    again = parse_duration(format_duration(seconds))
    assert again is not None
    assert abs(again - seconds) < (3600 if seconds >= 86400 else 60)


@given(st.integers(0, 10**9))
def test_a_duration_of_whole_seconds_is_written_as_it_can_be_typed(seconds: int) -> None:
    assert parse_duration(write_duration(seconds)) == seconds


@given(st.integers(0, 10**15))
def test_a_size_is_written_as_it_can_be_typed(size: int) -> None:
    assert parse_size(write_size(size)) == size
