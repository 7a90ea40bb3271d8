"""Option table: one row per option, which argparse, Settings, files, the environment, help and docs follow."""

from __future__ import annotations

import ast
import re
from dataclasses import fields

import pytest

from fanout.cli.command_table import COMMANDS
from fanout.model.errors import UsageError
from fanout.model.option import ByteSize, Duration, Setting
from fanout.model.option_table import OPTIONS, SETTINGS, options_of
from fanout.model.settings import Settings, merge_settings
from tests.cli.option_reference import PAGE, format_page
from tests.sources import ROOT

SHOWN = [
    (name, row)
    for name, command in COMMANDS.items()
    for group in ("", *command.groups)
    for row in options_of(name, group)
]


def test_the_fields_of_settings_are_the_rows_of_the_table() -> None:
    assert {field.name for field in fields(Settings)} == set(SETTINGS)
    for field in fields(Settings):
        row = SETTINGS[field.name]
        kind = str if row.words else {Duration: float, ByteSize: int}.get(row.kind, row.kind)
        assert str(field.type).partition("[")[0].partition(" |")[0] == kind.__name__, field.name
        assert getattr(Settings(), field.name) == row.default
        assert row.default is None or isinstance(row.default, kind)


def test_a_name_stands_for_one_setting() -> None:
    assert sum(isinstance(row, Setting) for row in OPTIONS) == len(SETTINGS)


def test_help_prints_a_default_from_the_table() -> None:
    """A help text that writes the default itself would go stale."""
    for row in OPTIONS:
        if row.default not in ("", None, False, ()):
            for text in (row.help, *row.help_of.values()):
                assert "{default}" in text, row.name
    for name, row in SHOWN:
        assert "{default}" not in row.format_help(name)
    assert SETTINGS["grace"].format_value(90.0) == "1m30s"
    assert SETTINGS["spool_limit"].format_value(4 * 10**9) == "4GB"


def test_no_module_writes_a_default_of_a_number_again() -> None:
    """Fields named like a setting, with a number as default, in the dataclasses of the launcher."""
    numbers = {name for name, row in SETTINGS.items() if row.kind in (int, Duration, ByteSize) and row.default}
    again = []
    for path in (ROOT / "fanout").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id in numbers:
                value = node.value.value if isinstance(node.value, ast.Constant) else None
                if value == SETTINGS[node.target.id].default:
                    again.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not again


@pytest.mark.parametrize("name", [name for name, row in SETTINGS.items() if row.in_files])
def test_a_setting_comes_from_a_file_and_from_its_environment_variable(name: str) -> None:
    row = SETTINGS[name]
    text, value, expected = {
        str: (row.choices[-1] if row.choices else {"save_signal": "USR2"}.get(name, "5"),) * 3,
        tuple: ("A=1", ["A=1"], ("A=1",)),
        bool: ("true", True, True),
        int: ("7", 7, 7),
        Duration: ("2m", 120, "120" if row.words else 120.0),
        ByteSize: ("1G", "1GB", 10**9),
    }[row.kind]
    for environ, files in (
        ({row.environment_name: text}, []),
        ({}, [("fanout.toml", {name.replace("_", "-"): value})]),
    ):
        assert getattr(merge_settings({}, environ, files).settings, name) == expected


@pytest.mark.parametrize("name", [name for name, row in SETTINGS.items() if not row.in_files])
def test_a_value_of_one_call_comes_from_the_command_line_only(name: str) -> None:
    with pytest.raises(UsageError, match="unknown setting"):
        merge_settings({}, {}, [("fanout.toml", {name: True})])
    assert merge_settings({}, {f"FANOUT_{name.upper()}": "1"}, []).settings == Settings()


def test_the_option_reference_is_generated_from_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == format_page(), "run: make options"


def test_the_option_reference_has_every_flag() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert not [flag for row in OPTIONS for flag in row.flags if not re.search(rf"`{flag}`", text)]
