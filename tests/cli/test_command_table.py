"""Commands: one row each, whose words, options and function agree."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from fanout.cli.command_table import COMMANDS
from fanout.model.option_table import OPTIONS, options_of
from tests.sources import ROOT


@pytest.mark.parametrize("name", COMMANDS)
def test_the_function_of_a_command_takes_the_request_and_the_context(name: str) -> None:
    command = COMMANDS[name]
    required = [
        one.name for one in inspect.signature(command.import_function()).parameters.values() if one.default is one.empty
    ]
    assert required[:2] == ["request", "process"]
    assert len(required) == 2 + bool(command.needs)
    assert command.function.startswith(f"fanout.commands.{name}:")


def test_every_file_in_commands_is_a_command() -> None:
    files = {path.stem for path in (ROOT / "fanout" / "commands").glob("*.py")} - {"__init__"}
    assert files == set(COMMANDS)


def test_every_option_belongs_to_a_command() -> None:
    """Except for settings without a flag, which fanout computes."""
    used = [
        row for name, command in COMMANDS.items() for group in ("", *command.groups) for row in options_of(name, group)
    ]
    assert not [row.name for row in OPTIONS if row.flags and row not in used]
    named = {name for row in OPTIONS for name in (*row.commands, *row.help_of, *row.only.split())}
    assert named <= set(COMMANDS)


def test_a_command_has_each_flag_once() -> None:
    for name, command in COMMANDS.items():
        flags = [flag for group in ("", *command.groups) for row in options_of(name, group) for flag in row.flags]
        assert len(flags) == len(set(flags)), name


@pytest.mark.process
@pytest.mark.parametrize("words", [["--help"], ["run", "--help"]])
def test_help_imports_neither_dataclasses_nor_typing(words: list[str]) -> None:
    """They cost as much as argparse. ``-S`` leaves out what an editable installation imports."""
    code = "import sys; from fanout.cli.main import main; main(sys.argv[1:]); sys.exit('dataclasses' in sys.modules or 'typing' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "fanout" in done.stdout
