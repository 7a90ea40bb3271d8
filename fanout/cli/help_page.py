"""Help page of one command, wrapped to the terminal: its words, its own flags, and one line for each group of others."""

from __future__ import annotations

from fanout.cli.help_format import list_rows, wrap_paragraphs
from fanout.model.option_table import options_of

TYPE_CHECKING = False  # a help page must not pay for typing
if TYPE_CHECKING:
    from collections.abc import Iterator

    from fanout.cli.command_table import Command
    from fanout.model.option import Option


def format_command_help(command: Command, columns: int, *, everything: bool = False) -> str:
    """Return the help page of a command. ``everything``: explain every flag of every group."""
    lines = [f"usage: fanout {command.name} {command.usage}", *wrap_paragraphs(command.about, columns)]
    words = [(word.metavar, word.help) for word in command.positionals if word.help]
    if words:
        lines += ["", *list_rows(words, columns)]
    for title, rows in _group_flags(command, everything=everything):
        lines += ["", f"{title}:", *list_rows(rows, columns)]
    if command.groups and not everything:
        lines += ["", f"more flags (fanout help {command.name} --all explains each):"]
        lines += list_rows(_list_other_flags(command), columns, cut=True)
    for text in (command.epilog, command.details if everything else ""):
        if text:
            lines += ["", *wrap_paragraphs(text, columns)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def format_flags(option: Option) -> str:
    """Return the flags of an option with the name of its value: ``-C, --chdir DIR``."""
    flags = ", ".join(option.flags)
    if option.kind is bool or option.const:
        return flags
    return f"{flags} {'|'.join(option.choices) or option.metavar}"


def _group_flags(command: Command, *, everything: bool) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield (title, rows of flags and texts): the command's own flags, then the whole groups if ``everything``."""
    chosen = [] if everything else _list_main_options(command)
    own = [*chosen, *options_of(command.name)]
    if own:
        yield "flags", _build_rows(own, command.name)
    for title in command.groups if everything else ():
        yield title, _build_rows(options_of(command.name, title), command.name)


def _list_main_options(command: Command) -> list[Option]:
    """Return the options of groups that the short page of this command explains, in the order of the command's row."""
    by_flag = {row.long_flag: row for title in command.groups for row in options_of(command.name, title)}
    return [by_flag[flag] for flag in command.main_flags]


def _list_other_flags(command: Command) -> list[tuple[str, str]]:
    """Return (title, flags) of each group, without the flags that the page explains."""
    rows = []
    for title in command.groups:
        others = [row for row in options_of(command.name, title) if row.long_flag not in command.main_flags]
        names = ", ".join(row.flags[-1] for row in others)
        if names:
            rows.append((title.partition(" (")[0], names))
    return rows


def _build_rows(options: list[Option], command: str) -> list[tuple[str, str]]:
    return [(format_flags(option), option.format_help(command)) for option in options]
