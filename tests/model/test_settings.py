"""Settings: their precedence, and the errors of wrong ones."""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import Any

import pytest

from fanout.model.errors import UsageError
from fanout.model.option_table import CHOICES
from fanout.model.settings import Settings, merge_settings

PLACES = ("command line", "FANOUT_GRACE", "near.toml", "home.toml")


@pytest.mark.parametrize("said", [said for n in range(5) for said in itertools.combinations(PLACES, n)])
def test_the_most_specific_source_wins(said: tuple[str, ...]) -> None:
    """The order is: command line, environment, the nearest file, the user's file, the default."""
    values = {place: 1.0 + at for at, place in enumerate(PLACES)}
    loaded = merge_settings(
        {"grace": values["command line"] if "command line" in said else None},
        {"FANOUT_GRACE": str(values["FANOUT_GRACE"])} if "FANOUT_GRACE" in said else {},
        [(place, {"grace": values[place]} if place in said else {}) for place in PLACES[2:]],
    )
    assert loaded.settings.grace == (values[said[0]] if said else Settings().grace)
    assert loaded.origins == ({"grace": said[0]} if said else {})


def test_without_settings_the_defaults_hold() -> None:
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
        ({}, {"FANOUT_GRACE": "soon"}, {}, "FANOUT_GRACE must be a number of seconds, not 'soon'"),
        (
            {},
            {"FANOUT_SKIP_CHECK": "perhaps"},
            {},
            "FANOUT_SKIP_CHECK must be true or false, not 'perhaps'",
        ),
        ({}, {}, {"grace": "40"}, "fanout.toml: grace must be a number of seconds, not '40'"),
        ({}, {}, {"grace": True}, "fanout.toml: grace must be a number of seconds, not True"),
        ({}, {}, {"fanout": 2.5}, "fanout.toml: fanout must be a whole number, not 2.5"),
        ({}, {}, {"skip_check": 1}, "fanout.toml: skip_check must be true or false, not 1"),
        ({}, {}, {"script": ["a"]}, "fanout.toml: script must be text, not ['a']"),
        ({}, {}, {"shell": "fish"}, "fanout.toml: shell must be one of bash, sh, not 'fish'"),
        ({"master_port": 70000}, {}, {}, "--master-port must be from 1 to 65535, not 70000"),
        ({"master_port": 0}, {}, {}, "--master-port must be from 1 to 65535, not 0"),
        ({"fanout": 0}, {}, {}, "--fanout must be from 1 to 10000, not 0"),
        ({"nproc_per_node": -1}, {}, {}, "--nproc-per-node must be from 1 to 10000, not -1"),
        ({"lease": 1.0}, {}, {}, "--lease must be from 5 to 2000000, not 1"),
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
    with pytest.raises(UsageError, match="--grace must be a number of seconds"):
        merge_settings({"grace": value}, {}, [])


def test_a_typing_error_has_the_nearest_name_as_a_hint() -> None:
    with pytest.raises(UsageError) as raised:
        merge_settings({}, {}, [("fanout.toml", {"conect-timeout": 1})])
    assert raised.value.hint == "did you mean connect-timeout?"


@pytest.mark.parametrize(("name", "choices"), CHOICES.items())
def test_the_default_is_among_the_choices(name: str, choices: tuple[str, ...]) -> None:
    assert getattr(Settings(), name) in choices


def test_every_setting_can_be_given_its_own_default() -> None:
    """The loader and the dataclass agree."""
    defaults = {field.name: getattr(Settings(), field.name) for field in fields(Settings)}
    assert merge_settings(defaults, {}, []).settings == Settings()
