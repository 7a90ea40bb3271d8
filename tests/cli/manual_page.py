"""Manual pages: write man/fanout.1 and man/fanout-COMMAND.1 from the command table and the option table.

``python -m tests.cli.manual_page`` (or ``make options``) writes the pages; a test compares them. The wheel installs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fanout import __version__
from fanout.cli.command_table import COMMANDS, SECTIONS, Command
from fanout.cli.help_page import format_flags
from fanout.cli.overview import EXAMPLES, FIRST
from fanout.model.exit_status import ExitStatus
from fanout.model.option import Option
from fanout.model.option_table import options_of
from tests.sources import ROOT

DIRECTORY = ROOT / "man"
FILES = (
    ("fanout.toml", "settings of the project: the nearest one in the work directory or above it"),
    ("~/.config/fanout/config.toml", "settings of the user"),
    ("~/.config/fanout/notify.toml", "addresses of services for --notify; mode 0600"),
    ("~/.local/state/fanout/runs/", "one directory for each run: events, logs, report"),
    ("~/.ssh/config", "users, ports, keys and jump hosts"),
)


def build_pages() -> dict[str, str]:
    """Return the content of each file: the page of all commands, and one page for each command."""
    pages = {f"fanout-{name}.1": format_command_page(command) for name, command in COMMANDS.items()}
    return {"fanout.1": format_page(), **pages}


def format_command_page(command: Command) -> str:
    """Return the page of one command, with all of its options."""
    lines = [f'.TH FANOUT\\-{command.name.upper()} 1 "" "fanout {__version__}" "User Commands"', ".SH NAME"]
    lines += [f"fanout\\-{command.name} \\- {escape_text(command.summary)}", ".SH SYNOPSIS"]
    lines += [f".B fanout {command.name}", escape_text(command.usage), ".SH DESCRIPTION"]
    lines += [*list_entry(command), *list_groups([command])]
    lines += [".SH SEE ALSO", ".BR fanout (1)", ".PP", "The page of fanout has the exit status and the files."]
    return "\n".join(lines) + "\n"


def format_page() -> str:
    """Return the page of all commands in the macros of man(7)."""
    lines = [f'.TH FANOUT 1 "" "fanout {__version__}" "User Commands"', ".SH NAME"]
    lines += [f"fanout \\- {escape_text(FIRST.replace('fanout launches', 'launch').rstrip('.'))}", ".SH SYNOPSIS"]
    for name, command in COMMANDS.items():
        lines += [f".B fanout {name}", escape_text(command.usage), ".br"]
    lines += [".SH DESCRIPTION", escape_text(FIRST)]
    for example, text in EXAMPLES:
        lines += [".TP", f".B {escape_text(example)}", escape_text(text)]
    lines += list_commands()
    lines += list_groups(list(COMMANDS.values()))
    lines += [".SH EXIT STATUS", "The exit status of a run is that of the host that failed first. fanout itself uses:"]
    for status in ExitStatus:
        lines += [".TP", f".B {int(status)}", escape_text(status.meaning)]
    lines.append(".SH FILES")
    for path, text in FILES:
        lines += [".TP", f".I {escape_text(path)}", escape_text(text)]
    lines += [".SH SEE ALSO", ".BR ssh (1),", ".BR ssh_config (5)", ".PP", "fanout help COMMAND explains a command."]
    return "\n".join(lines) + "\n"


def list_commands() -> Iterator[str]:
    """Yield the section of the commands, in the order of the overview."""
    yield ".SH COMMANDS"
    for section in (*SECTIONS, ""):
        for command in COMMANDS.values():
            if command.section == section:
                yield from list_command(command)


def list_command(command: Command) -> Iterator[str]:
    """Yield the part of one command in the page of all commands."""
    yield f".SS fanout {command.name} {escape_text(command.usage)}"
    yield from list_entry(command)
    if command.groups:
        yield ".PP"
        yield escape_text(f"Options of groups: {', '.join(title.partition(' (')[0] for title in command.groups)}.")


def list_entry(command: Command) -> Iterator[str]:
    """Yield the text of a command, its words and its own options."""
    yield from list_paragraphs(command.about)
    for word in command.positionals:
        if word.help:
            yield from (".TP", f".I {escape_text(word.metavar)}", escape_text(word.help))
    for option in options_of(command.name):
        yield from list_option(option, command.name)
    for text in (command.epilog, command.details):
        if text:
            yield ".PP"
            yield from list_paragraphs(text)


def list_groups(commands: Sequence[Command]) -> Iterator[str]:
    """Yield one section for each group of options of these commands."""
    for title in dict.fromkeys(group for command in commands for group in command.groups):
        users = [command.name for command in commands if title in command.groups]
        yield f".SH {escape_text(title.upper())}"
        if len(commands) > 1:
            yield escape_text(f"Commands: {', '.join(users)}.")
        for option in dict.fromkeys(row for name in users for row in options_of(name, title)):
            if option.flags:
                yield from list_option(option, (option.only.split() or users)[0])


def list_option(option: Option, command: str) -> Iterator[str]:
    """Yield the entry of an option."""
    yield from (".TP", f".B {escape_text(format_flags(option))}", escape_text(option.format_help(command)))


def list_paragraphs(text: str) -> Iterator[str]:
    """Yield the lines of a text; a line that begins with a space is an example."""
    for line in text.split("\n"):
        if line.startswith(" "):
            yield from (".nf", escape_text(line), ".fi")
        else:
            yield escape_text(line)


def escape_text(text: str) -> str:
    """Return the text with the characters escaped that roff reads, so that a copied dash is a dash."""
    escaped = re.sub(r"[\\]", r"\\e", text).replace("-", r"\-").replace("~", r"\(ti").replace("^", r"\(ha")
    escaped = escaped.replace("…", "...").replace("'", r"\(aq").replace("`", r"\(ga").replace('"', r"\(dq")
    return r"\&" + escaped if escaped.startswith((".", " ")) else escaped


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for name, page in build_pages().items():
        (DIRECTORY / name).write_text(page, encoding="utf-8")
