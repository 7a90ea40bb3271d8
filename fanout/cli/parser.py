"""Command line parser: argv becomes a Request with the command, HOSTS, the task and the given flags. Pure."""

from __future__ import annotations

from fanout.cli.command_line import (
    SplitCommandLine,
    check_flags,
    check_stray_flags,
    split_command_line,
)
from fanout.cli.command_table import COMMANDS, Command
from fanout.cli.help_page import format_command_help
from fanout.cli.help_topics import TOPICS, format_topic
from fanout.cli.overview import format_overview
from fanout.model.errors import UsageError
from fanout.model.option_table import SETTINGS, options_of
from fanout.model.option_values import parse_option_text

TYPE_CHECKING = False  # --help pays for argparse and for nothing else: typing and dataclasses cost as much again
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from fanout.model.request import Request

HELP_WORDS = ("-h", "--help", "help")
#: Names that people type, because other programs have them.
OTHER_NAMES = {
    "ls": "ps", "list": "ps", "status": "ps", "jobs": "ps", "squeue": "ps", "runs": "ps", "kill": "stop", "cancel": "stop",
    "scancel": "stop", "launch": "run", "start": "run", "train": "run", "torchrun": "run", "srun": "run", "test": "check",
    "doctor": "check", "validate": "check", "tail": "logs", "log": "logs", "ssh": "exec", "cmd": "exec", "pdsh": "exec",
    "nodes": "hosts", "config": "hosts", "rm": "clean", "prune": "clean", "diagnose": "why", "explain": "why",
    "show": "report", "stack": "stacks", "nvidia-smi": "top", "gpustat": "top", "nvtop": "top", "htop": "top", "watch": "attach", "version": "--version",
}  # fmt: skip


class HelpRequested(Exception):
    """Text to print for --help or --version."""


def parse_arguments(argv: Sequence[str], *, columns: int = 100) -> Request:
    """Return the request. Raises UsageError, or HelpRequested for help (``columns`` wide) and version."""
    if not argv or argv[0] in HELP_WORDS:
        raise HelpRequested(find_help(argv[1:], columns))
    if argv[0] in ("-V", "--version"):
        from fanout.cli.version import describe_version

        raise HelpRequested(describe_version())
    command = COMMANDS.get(argv[0])
    if command is None:
        raise UsageError(f"unknown command {argv[0]!r}", hint=_correct_command(argv))
    line = split_command_line(command, argv[1:])
    if "-h" in line.flags or "--help" in line.flags:
        raise HelpRequested(format_command_help(command, columns, everything="--all" in line.flags))
    check_flags(command, line, argv)
    notes = () if command.flags_after or line.literal else check_stray_flags(command, line)
    from fanout.cli.help_parser import build_parser  # a help page does not pay for argparse

    words = [*line.options, *line.positionals]
    chosen = build_parser(command)
    values = chosen.parse_args(words) if command.most_positionals is not None else chosen.parse_intermixed_args(words)
    return _build_request(command, vars(values), line, notes)


def find_help(words: Sequence[str], columns: int) -> str:
    """Return the help for the words after ``fanout help``: the overview, a command, or a topic. Raises UsageError."""
    names = [word for word in words if word not in ("--all", "-a", "-h", "--help")]
    if not names:
        return format_overview(columns)
    if names[0] in TOPICS:
        return format_topic(names[0], columns)
    if names[0] not in COMMANDS:
        raise UsageError(f"no help for {names[0]!r}", hint=_correct_command(names[:1], "help"))
    return format_command_help(COMMANDS[names[0]], columns, everything=len(names) < len(words))


def _correct_command(argv: Sequence[str], *before: str) -> str:
    """Return the command line that was probably meant, or the command for the overview."""
    import shlex

    from fanout.text.suggest import find_nearest

    word = argv[0]
    known = [*COMMANDS, *(TOPICS if before else ("--version", "--help"))]
    near = [OTHER_NAMES[word]] if word in OTHER_NAMES else find_nearest(word, known, likeness=0.55)
    return shlex.join(["fanout", *before, near[0], *argv[1:]]) if near else "fanout --help"


def _build_request(command: Command, values: dict[str, Any], line: SplitCommandLine, notes: tuple[str, ...]) -> Request:
    from fanout.model.request import HostFilters, Request

    _parse_values(command, values)
    hosts = values.pop("hosts", "")
    named = values.pop("task", None) or ()
    first = ("-m", line.module) if line.module else (named,) if isinstance(named, str) else tuple(named)
    task = (*first, *line.tail)
    if command.missing_task and not task:
        message, example = command.missing_task
        raise UsageError(f"{command.name}: {message}", hint=example)
    if task and not command.takes_task:
        listed = hosts and not any(word in hosts for word in "/.@") and "-" not in task[0][:1]
        hint = f"fanout {command.name} {','.join((hosts, *task))}" if listed else f"fanout {command.name} --help"
        raise UsageError(f"{command.name}: unexpected {task[0]!r}", hint=hint)
    filters = HostFilters.take_from(values)
    values.pop("help")
    flags = {name: values.pop(name) for name in list(values) if name in SETTINGS}
    return Request(
        verb=command.name,
        hosts=hosts,
        task=task,
        filters=filters,
        flags=flags,
        given=values,
        head=tuple(line.head),
        literal=line.literal,
        notes=notes,
    )


def _parse_values(command: Command, values: dict[str, Any]) -> None:
    """Replace the text of each option by its value. Raises UsageError for an invalid text."""
    for group in ("", *command.groups):
        for option in options_of(command.name, group):
            text = values.get(option.name)
            if isinstance(text, str) and not option.const and text != option.default:
                try:
                    values[option.name] = parse_option_text(option, text, option.long_flag)
                except UsageError as error:
                    raise UsageError(str(error), hint=error.hint or f"fanout {command.name} --help") from None
