"""Option reference: write docs/options.md from the option table and the command table.

``python -m tests.cli.option_reference`` (or ``make options``) writes the page; a test compares it.
"""

from __future__ import annotations

from collections.abc import Iterator

from fanout.cli.command_table import COMMANDS
from fanout.model.option import Option, Setting
from fanout.model.option_table import OPTIONS, options_of
from tests.sources import ROOT

PAGE = ROOT / "docs" / "options.md"
INTRODUCTION = """\
# Options

This page is generated from the option table (`make options`). `fanout COMMAND --help` shows the same texts.

An option with an environment variable can also be set in `fanout.toml`, under its name without the leading dashes:
`connect-timeout = 5`. [configuration.md](configuration.md) describes which value takes precedence. A value outside its
range is an error with exit status 2, before any host is contacted.
"""
HEADER = ("| option | value | environment variable | meaning |", "|---|---|---|---|")


def format_page() -> str:
    """Return the whole page."""
    return "\n".join([INTRODUCTION, *format_groups(), *format_commands()]).rstrip() + "\n"


def format_groups() -> Iterator[str]:
    """Yield the lines of the sections of groups."""
    for title in dict.fromkeys(group for command in COMMANDS.values() for group in command.groups):
        users = [command.name for command in COMMANDS.values() if title in command.groups]
        rows = [row for row in OPTIONS if any(row.is_in_group(title, name) for name in users)]
        yield f"## {title[0].upper()}{title[1:]}"
        yield ""
        yield f"Commands: {', '.join(f'`{name}`' for name in users)}."
        yield ""
        yield from HEADER
        for row in rows:
            only = row.only.split()
            note = f" ({', '.join(f'`{name}`' for name in only)} only)" if only and set(only) != set(users) else ""
            yield format_row(row, (only or users)[0 if only else -1], note)
        yield ""


def format_commands() -> Iterator[str]:
    """Yield the lines of the sections of single commands."""
    for command in COMMANDS.values():
        rows = options_of(command.name)
        if rows:
            yield from (f"## `fanout {command.name}`", "", *HEADER)
            yield from (format_row(row, command.name) for row in rows)
            yield ""


def format_row(row: Option, command: str, note: str = "") -> str:
    """Return the table row of one option for one command."""
    flags = ", ".join(f"`{flag}`" for flag in row.flags)
    variable = f"`{row.environment_name}`" if isinstance(row, Setting) and row.in_files else ""
    return f"| {flags} | {format_value(row)} | {variable} | {row.format_help(command)}{note} |"


def format_value(row: Option) -> str:
    """Return what the option takes, with its range."""
    if row.choices:
        return ", ".join(f"`{choice}`" for choice in row.choices)
    if row.kind is bool or row.const:
        return ""
    value = "`" + row.metavar.replace("|", "\\|") + "`" + (", may be repeated" if row.kind is tuple else "")
    return f"{value}, {row.format_value(row.bounds[0])} to {row.format_value(row.bounds[1])}" if row.bounds else value


if __name__ == "__main__":
    PAGE.write_text(format_page(), encoding="utf-8")
