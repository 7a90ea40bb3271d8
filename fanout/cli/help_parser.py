"""argparse parsers of the commands, built from the command table and the option table."""

from __future__ import annotations

import argparse

from fanout.model.errors import UsageError
from fanout.model.option_table import options_of

TYPE_CHECKING = False  # --help pays for argparse and for nothing else: typing and dataclasses cost as much again
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from fanout.cli.command_table import Command
    from fanout.model.option import Option


class CommandParser(argparse.ArgumentParser):
    """argparse parser that raises UsageError instead of printing and exiting."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog.removeprefix('fanout ')}: {message}", hint=f"{self.prog} --help")


def build_parser(command: Command) -> CommandParser:
    """Return the parser of one command. To build the parsers of all commands takes longer than to parse."""
    parser = CommandParser(prog=f"fanout {command.name}", allow_abbrev=False, add_help=False)
    parser.add_argument("-h", "--help", action="store_true", dest="help")
    for word in command.positionals:
        extra: dict[str, Any] = {"nargs": "*"} if word.many else {}
        if word.optional:
            extra = {"nargs": "?", "default": "" if word.name != "task" else None}
        parser.add_argument(word.name, metavar=word.metavar, **extra)
    for option in options_of(command.name):
        add_option(parser, option)
    for group in command.groups:
        for option in options_of(command.name, group):
            add_option(parser, option)
    return parser


def add_option(parser: argparse.ArgumentParser, option: Option) -> None:
    """Add one option; argparse returns its text, which ``model/option_values.py`` parses.

    The value of a setting that is not given is None, so that other sources may set it.
    """
    words: dict[str, Any] = {"dest": option.name}
    words["default"] = None if option.is_setting or option.const else option.default
    if option.const:
        words |= {"action": "store_const", "const": option.const}
    elif option.kind is bool:
        words["action"] = "store_true"
    else:
        words["action"] = "append" if option.kind is tuple else "store"
    parser.add_argument(*option.flags, **words)
