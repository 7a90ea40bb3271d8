"""Help: the pages as golden screens at three sizes, and what a mistyped command or flag leads to."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from fanout.cli.command_table import COMMANDS, SECTIONS
from fanout.cli.help_format import list_rows
from fanout.cli.help_topics import TOPICS
from fanout.cli.parser import OTHER_NAMES, HelpRequested, parse_arguments
from fanout.model.errors import UsageError
from fanout.model.option_table import options_of
from tests.ui.goldens import same_as_golden

GOLDEN = Path(__file__).parent / "golden"
SIZES = [(80, 24), (100, 30), (140, 40)]
PAGES = ["", *(f"help {name}" for name in (*COMMANDS, *TOPICS)), "help run --all"]


def show_help(words: str, columns: int = 100) -> str:
    """Return the help that a command line prints."""
    with pytest.raises(HelpRequested) as shown:
        parse_arguments(words.split(), columns=columns)
    return str(shown.value)


@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_every_page_looks_as_recorded(columns: int, rows: int) -> None:
    pages = [f"$ fanout {page}".rstrip() + "\n" + show_help(page, columns) for page in PAGES]
    same_as_golden(f"help-{columns}x{rows}", "\n".join(pages), GOLDEN)


@pytest.mark.parametrize("columns", [20, 60, 80, 100, 140, 300])
def test_no_line_is_wider_than_the_terminal(columns: int) -> None:
    lines = [line for page in PAGES for line in show_help(page, columns).splitlines()]
    assert max(map(len, lines)) < max(columns, 80)


def test_the_overview_has_at_most_22_lines_and_names_every_command() -> None:
    lines = show_help("", 80).splitlines()
    assert len(lines) <= 22
    for name, command in COMMANDS.items():
        if not command.section:
            assert name in lines[-2].split(None, 1)[1].split(", ")
            continue
        assert command.section in SECTIONS
        assert [line[16:] for line in lines if line[8:16].rstrip() == name] == [command.summary]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_a_command_fits_the_screen_and_names_every_flag_at_length(name: str) -> None:
    page = show_help(f"help {name}", 80)
    assert len(page.splitlines()) <= 23
    assert page == show_help(f"{name} --help", 80) == show_help(f"{name} -h", 80)
    whole = show_help(f"{name} --help --all", 80)
    assert whole == show_help(f"help {name} --all", 80)
    for group in ("", *COMMANDS[name].groups):
        for row in options_of(name, group):
            assert f"  {row.flags[0]}" in whole
            assert group or f"  {row.flags[0]}" in page


def test_help_on_options_explains_each_shared_option() -> None:
    page = show_help("help options")
    for group in COMMANDS["run"].groups:
        for row in options_of("run", group):
            assert row.flags[-1] in page


def test_a_long_list_of_flags_is_cut_between_two() -> None:
    assert list_rows([("name", "--one, --two, --three")], 41, cut=True) == ["  name  --one, --two, --three"]
    assert list_rows([("name", ", ".join(f"--flag{n}" for n in range(9)))], 41, cut=True) == [
        "  name  --flag0, --flag1, --flag2, …"
    ]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("runn h.txt task.py", "fanout run h.txt task.py"),
        ("chekc hosts.txt", "fanout check hosts.txt"),
        ("kill 1636", "fanout stop 1636"),
        ("ls -a", "fanout ps -a"),
        ("status", "fanout ps"),
        ("version", "fanout --version"),
        ("--verison", "fanout --version"),
        ("doctor h1", "fanout check h1"),
        ("xyzzy", "fanout --help"),
        ("help runn", "fanout help run"),
        ("help optoins", "fanout help options"),
        ("run --dry-runn h.txt 'a b.py'", "fanout run --dry-run h.txt 'a b.py'"),
        ("run --nproc_per_nod=2 h.txt t.py", "fanout run --nproc-per-node=2 h.txt t.py"),
        ("logs --folow", "fanout logs --follow"),
        ("run --xyzzy h.txt t.py", "fanout help run --all"),
        ("run --deep h.txt t.py", "fanout help run --all"),
        ("hosts gpu01 gpu02", "fanout hosts gpu01,gpu02"),
    ],
)
def test_mistyped_command_gets_a_suggestion(line: str, meant: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_arguments(shlex.split(line))
    assert raised.value.hint == meant


def test_a_flag_of_another_command_is_named_as_such() -> None:
    with pytest.raises(UsageError, match="run: unknown flag --deep; it is a flag of check"):
        parse_arguments("run --deep h.txt task.py".split())


def test_the_names_from_other_programs_are_no_commands_of_fanout() -> None:
    assert not OTHER_NAMES.keys() & COMMANDS.keys()
    assert set(OTHER_NAMES.values()) <= {*COMMANDS, "--version"}
