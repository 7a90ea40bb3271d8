"""Settings: their precedence, and the errors of wrong ones."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from typing import Any

import pytest

from fanout.cli.parser import parse_arguments
from fanout.model.errors import UsageError
from fanout.model.option import Duration
from fanout.model.option_table import OPTIONS, SETTINGS
from fanout.model.settings import Settings, merge_settings

PLACES = ("command line", "FANOUT_GRACE", "near.toml", "home.toml")


@pytest.mark.parametrize("sources", [sources for n in range(5) for sources in itertools.combinations(PLACES, n)])
def test_the_most_specific_source_wins(sources: tuple[str, ...]) -> None:
    """The order is: command line, environment, the nearest file, the user's file, the default."""
    values = {place: 1.0 + at for at, place in enumerate(PLACES)}
    loaded = merge_settings(
        {"grace": values["command line"] if "command line" in sources else None},
        {"FANOUT_GRACE": str(values["FANOUT_GRACE"])} if "FANOUT_GRACE" in sources else {},
        [(place, {"grace": values[place]} if place in sources else {}) for place in PLACES[2:]],
    )
    assert loaded.settings.grace == (values[sources[0]] if sources else Settings().grace)
    assert loaded.origins == ({"grace": sources[0]} if sources else {})


def test_settings_without_files_are_the_defaults() -> None:
    assert merge_settings({}, {"PATH": "/bin", "FANOUT_STATE": "/x"}, []).settings == Settings()


def test_dash_and_underscore_are_one_in_a_file() -> None:
    for key in ("connect-timeout", "connect_timeout"):
        assert merge_settings({}, {}, [("fanout.toml", {key: 5})]).settings.connect_timeout == 5.0


def test_options_of_ssh_are_a_list_in_a_file_and_words_in_the_environment() -> None:
    options = ("Port=22", "ProxyCommand=nc %h %p")
    assert merge_settings({"ssh_option": list(options)}, {}, []).settings.ssh_option == options
    assert (
        merge_settings({}, {"FANOUT_SSH_OPTION": "Port=22 'ProxyCommand=nc %h %p'"}, []).settings.ssh_option == options
    )
    assert merge_settings({}, {}, [("fanout.toml", {"ssh-option": list(options)})]).settings.ssh_option == options
    with pytest.raises(UsageError, match="FANOUT_SSH_OPTION must be a list of texts"):
        merge_settings({}, {"FANOUT_SSH_OPTION": "'Port"}, [])


@pytest.mark.parametrize(("text", "value"), [("1", True), ("true", True), ("YES", True), ("0", False), ("", False)])
def test_yes_and_no_in_the_environment(text: str, value: bool) -> None:
    assert merge_settings({}, {"FANOUT_SKIP_CHECK": text}, []).settings.skip_check is value


@pytest.mark.parametrize(
    ("flags", "environ", "table", "message"),
    [
        (
            {},
            {"FANOUT_GRACE": "soon"},
            {},
            "FANOUT_GRACE must be a duration such as 90, 90s, 10m, 2h or 1d, not 'soon'",
        ),
        (
            {},
            {"FANOUT_SKIP_CHECK": "perhaps"},
            {},
            "FANOUT_SKIP_CHECK must be true or false, not 'perhaps'",
        ),
        ({}, {}, {"grace": "4x"}, "fanout.toml: grace must be a duration such as 90, 90s, 10m, 2h or 1d, not '4x'"),
        ({}, {}, {"grace": True}, "fanout.toml: grace must be a duration such as 90, 90s, 10m, 2h or 1d, not True"),
        ({}, {}, {"spool-limit": "4x"}, "fanout.toml: spool-limit must be a size such as 512MB, 4GB or 4GiB, not '4x'"),
        (
            {},
            {},
            {"hang-timeout": "2x"},
            "fanout.toml: hang-timeout must be off, auto, or a duration such as 90, 90s, 10m, 2h or 1d, not '2x'",
        ),
        ({}, {"FANOUT_GRACE": "30d"}, {}, "FANOUT_GRACE must be from 0 to 11d12h, not 30d"),
        (
            {},
            {"FANOUT_SPOOL_LIMIT": "1MB"},
            {},
            "FANOUT_SPOOL_LIMIT must be from 32MB to 1000TB (or 0 for no limit), not 1MB",
        ),
        ({}, {}, {"fanout": "5"}, "fanout.toml: fanout must be a whole number, not '5'"),
        ({}, {}, {"fanout": 2.5}, "fanout.toml: fanout must be a whole number, not 2.5"),
        ({}, {}, {"skip_check": 1}, "fanout.toml: skip_check must be true or false, not 1"),
        ({}, {}, {"script": ["a"]}, "fanout.toml: script must be text, not ['a']"),
        ({}, {}, {"shell": "fish"}, "fanout.toml: shell must be one of bash, sh, not 'fish'"),
        ({"master_port": 70000}, {}, {}, "--master-port must be from 1 to 65535, not 70000"),
        ({"master_port": 0}, {}, {}, "--master-port must be from 1 to 65535, not 0"),
        ({"fanout": 0}, {}, {}, "--fanout must be from 1 to 10000, not 0"),
        ({"nproc_per_node": -1}, {}, {}, "--nproc-per-node must be from 1 to 10000, not -1"),
        ({"lease": 1.0}, {}, {}, "--lease must be from 5s to 23d, not 1.0"),
        ({}, {}, {"force": True}, "fanout.toml: unknown setting 'force'"),
        ({}, {}, {"env": []}, "fanout.toml: unknown setting 'env'"),
        ({}, {}, {"grase": 1}, "fanout.toml: unknown setting 'grase'"),
    ],
)
def test_a_wrong_setting_names_its_place(
    flags: dict[str, Any], environ: dict[str, str], table: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as raised:
        merge_settings(flags, environ, [("fanout.toml", table)])
    assert str(raised.value) == message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_of_seconds_is_a_number(value: float) -> None:
    with pytest.raises(UsageError, match=f"--grace must be from 0 to 11d12h, not {value}"):
        merge_settings({"grace": value}, {}, [])


def test_a_typing_error_has_the_nearest_name_as_a_hint() -> None:
    with pytest.raises(UsageError) as raised:
        merge_settings({}, {}, [("fanout.toml", {"conect-timeout": 1})])
    assert raised.value.hint == "did you mean connect-timeout?"


@pytest.mark.parametrize("name", [name for name, row in SETTINGS.items() if row.choices])
def test_the_default_is_among_the_choices(name: str) -> None:
    assert getattr(Settings(), name) in SETTINGS[name].choices


def test_a_mistyped_choice_has_the_nearest_one_as_a_hint() -> None:
    with pytest.raises(UsageError) as raised:
        merge_settings({}, {"FANOUT_TRANSPORT": "opensh"}, [])
    assert raised.value.hint == "did you mean openssh?"


DURATIONS = [name for name, row in SETTINGS.items() if row.kind is Duration]


@pytest.mark.parametrize("name", DURATIONS)
@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400)])
def test_every_duration_has_the_same_forms_from_every_source(name: str, text: str, seconds: int) -> None:
    flag, variable = SETTINGS[name].long_flag, SETTINGS[name].environment_name
    typed = parse_arguments(["run", flag, text, "h.txt", "task.py"]).flags
    loaded = [
        merge_settings(typed, {}, []),
        merge_settings({}, {variable: text}, []),
        merge_settings({}, {}, [("fanout.toml", {name: text})]),
        merge_settings({}, {}, [("fanout.toml", {name: seconds})]),
    ]
    assert {float(getattr(each.settings, name)) for each in loaded} == {seconds}


def test_the_durations_are_the_options_that_take_a_time() -> None:
    assert {row.name for row in OPTIONS if "TIME" in row.metavar.split("|")} - {"since", "begin"} == set(DURATIONS)


def test_every_setting_can_be_given_its_own_default() -> None:
    """The loader and the dataclass agree."""
    defaults = {field.name: getattr(Settings(), field.name) for field in fields(Settings)}
    given = merge_settings(defaults, {}, []).settings
    assert replace(given, master_port_given=False) == Settings()  # the loader derives it
