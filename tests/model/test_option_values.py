"""Ranges of numbers: each number of the user has one, from every source; outside of it, nothing is started."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest

from fanout.cli.command_table import COMMANDS
from fanout.cli.parser import parse_arguments
from fanout.commands.replay import parse_offset, parse_speed
from fanout.model.errors import UsageError
from fanout.model.option import ByteSize, Duration, Option
from fanout.model.option_table import BOUNDED, options_of
from fanout.model.settings import Settings, merge_settings
from fanout.record.retention import parse_bounds as parse_keep

HUGE = ("1e10", "3e6", "1e300", "1e400", "9" * 30, "9" * 400, "9" * 5000)
ODD = ("nan", "inf", "-inf", "-1", "-1e10", *HUGE)


def numeric_options() -> list[tuple[str, str, str]]:
    """Return (verb, option, name) of each flag that takes a number."""
    return [
        (verb, row.long_flag, row.name)
        for verb, command in COMMANDS.items()
        for group in ("", *command.groups)
        for row in options_of(verb, group)
        if row.kind in (int, Duration, ByteSize)
    ]


def bounds_of(name: str) -> tuple[float, float]:
    """Return the least and the greatest value of an option."""
    row: Option = BOUNDED[name]
    assert row.bounds is not None
    return row.bounds


def test_every_number_has_bounds() -> None:
    of_settings = {
        field.name for field in fields(Settings) if field.type in ("int", "float", "int | None", "float | None")
    }
    of_flags = {name for _, _, name in numeric_options()}
    assert len(numeric_options()) > 20
    assert of_settings | of_flags <= set(BOUNDED)


@pytest.mark.parametrize(("verb", "option", "name"), numeric_options())
def test_no_invalid_number_is_accepted_on_the_command_line(verb: str, option: str, name: str) -> None:
    for text in ODD:
        words = [verb, f"{option}={text}", "h1", "task.py"] if verb in ("run", "check") else [verb, f"{option}={text}"]
        words += ["h1"] if verb in ("hosts", "exec", "clean") else []
        words += ["--", "true"] if verb == "exec" else []
        taken = None
        try:
            request = parse_arguments(words)
            taken = merge_settings(request.flags, {}, [])
        except UsageError:  # exit status 2
            continue
        least, most = bounds_of(name)
        assert least <= float(text) <= most, (text, taken)


@pytest.mark.parametrize(
    "name", [each.name for each in fields(Settings) if each.name in BOUNDED and each.name != "hang_timeout"]
)
def test_a_setting_out_of_range_names_the_range_from_any_source(name: str) -> None:
    least, most = bounds_of(name)
    kind = float if BOUNDED[name].kind is Duration else int
    for value in (kind(most) + 1, kind(least) - 1):
        for flags, environ, files in (
            ({name: value}, {}, []),
            ({}, {f"FANOUT_{name.upper()}": str(value)}, []),
            ({}, {}, [("fanout.toml", {name: value})]),
        ):
            with pytest.raises(UsageError, match=r"must be (from|a duration|a size|a whole number).*, not "):
                merge_settings(flags, environ, files)
    for value in (kind(most), kind(math.ceil(least))):
        assert getattr(merge_settings({name: value}, {}, []).settings, name) == (
            None if name == "time_limit" and not value else value
        )
    for text in ODD:
        if not (text == "1e10" and most >= 1e10):
            with pytest.raises(UsageError):
                merge_settings({}, {f"FANOUT_{name.upper()}": "nan" if text == "3e6" and most > 3e6 else text}, [])


@pytest.mark.parametrize("value", [10**30, 10**400, -(10**400), math.nan, math.inf])
def test_invalid_numbers_of_a_file_are_refused(value: float) -> None:
    for name in ("lease", "grace", "fanout", "nproc_per_node"):
        with pytest.raises(UsageError):
            merge_settings({}, {}, [("fanout.toml", {name: value})])


@pytest.mark.parametrize("text", ["0.5", "nan", "inf", "1e10", "9" * 400, "-5"])
def test_the_timeout_for_a_hang_is_within_its_range(text: str) -> None:
    with pytest.raises(UsageError, match=r"from 1s to 23d|off, auto, or a duration"):
        merge_settings({"hang_timeout": text}, {}, [])


def test_no_time_limit_is_written_as_0_as_for_a_size() -> None:
    assert merge_settings({"time_limit": 0.0}, {}, []).settings.time_limit is None
    assert merge_settings({}, {"FANOUT_TIME_LIMIT": "0"}, []).settings.time_limit is None


@pytest.mark.parametrize("text", ["9" * 400, "9" * 5000, "9" * 400 + "GB", "9" * 400 + "d", "1e9"])
def test_sizes_ages_and_moments_of_any_length_have_an_error_message(text: str) -> None:
    for read in (
        parse_keep,
        parse_offset,
        lambda value: merge_settings({}, {"FANOUT_SPOOL_LIMIT": value}, []),
        lambda value: parse_speed(value, tty=True),
    ):
        with pytest.raises(UsageError) as caught:
            read(text)
        assert len(str(caught.value)) < 200
