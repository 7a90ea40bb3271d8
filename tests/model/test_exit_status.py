"""Exit statuses: one list, and help, docs and code that agree with it."""

from __future__ import annotations

import ast
import json
import re

import pytest

from fanout.cli.help_topics import EXIT
from fanout.cli.parser import HelpRequested, parse_arguments
from fanout.model.exit_status import ExitStatus, status_of_signal
from tests.sources import ROOT, all_of_fanout, list_nodes

VALUES = {int(status) for status in ExitStatus}
#: Packages that choose the exit status of a command.
CHOOSING = ("fanout.cli", "fanout.commands", "fanout.run", "fanout.preflight", "fanout.ui", "fanout.model.outcome")


def test_a_status_is_a_number_in_text_and_json() -> None:
    assert f"{ExitStatus.UNREACHABLE} {ExitStatus.REFUSED:>4}" == "255  125"
    assert json.dumps({"exit_code": ExitStatus.TIME_LIMIT}) == '{"exit_code": 124}'
    assert (status_of_signal(2), status_of_signal(15)) == (ExitStatus.INTERRUPTED, ExitStatus.TERMINATED)


def test_every_status_has_a_meaning() -> None:
    assert all(len(status.meaning) > 10 for status in ExitStatus)


def numbers_of(text: str) -> set[int]:
    """Return the numbers after "Exit status" in a help text; 128 stands for the base of signals."""
    parts = re.findall(r"Exit status.*?(?=\n\n|\Z)", text, re.DOTALL)
    return {int(number) for part in parts for number in re.findall(r"(?<![-\w.])\d{1,3}(?![-\w.%])", part)} - {128}


def test_the_help_on_exit_statuses_lists_those_of_a_run() -> None:
    expected = VALUES - {ExitStatus.BROKEN_PIPE}
    assert numbers_of(EXIT) == expected


@pytest.mark.parametrize("name", ["ps", "attach", "stop", "clean", "stacks", "why"])
def test_the_help_of_a_command_lists_known_statuses(name: str) -> None:
    with pytest.raises(HelpRequested) as shown:
        parse_arguments([name, "--help"])
    found = numbers_of(str(shown.value))
    assert found
    assert found <= VALUES


def test_the_tables_of_the_docs_list_known_statuses() -> None:
    found = set()
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for table in re.findall(r"(?:^\|.*\n)+", path.read_text(encoding="utf-8"), re.MULTILINE):
            rows = [line.split("|")[1].strip() for line in table.splitlines()]
            if re.search(r"exit (status|code)|^status", rows[0], re.IGNORECASE):
                found |= {int(row) for row in rows[2:] if row.isdecimal()}
    assert found <= VALUES
    assert found >= {ExitStatus.USAGE, ExitStatus.TIME_LIMIT, ExitStatus.REFUSED, ExitStatus.UNREACHABLE}


def test_the_code_names_its_exit_statuses() -> None:
    """A literal in a return statement or in a comparison with an exit code is refused."""
    literals = VALUES - {0, 1, 2}
    wrong = []
    for module in all_of_fanout():
        if module.name.startswith(CHOOSING):
            for node in list_nodes(module):
                compared = isinstance(node, ast.Compare) and "exit_code" in ast.unparse(node.left)
                inner = ast.walk(node) if compared or isinstance(node, ast.Return) else ()
                wrong += [
                    f"{module.path}:{one.lineno}"
                    for one in inner
                    if isinstance(one, ast.Constant) and type(one.value) is int and one.value in literals
                ]
    assert not wrong
