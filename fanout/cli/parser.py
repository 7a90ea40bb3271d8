"""Command line parser: argv becomes a Request with the command, HOSTS, the task and the given flags. Pure.

All words after TASK belong to the task, with or without ``--``. The parser splits argv there before argparse sees it,
because argparse drops the task's ``--`` and other parsers take its flags.
"""

from __future__ import annotations

import argparse

from fanout import __version__
from fanout.cli.command_table import COMMANDS, Command
from fanout.cli.help_parser import build_parser
from fanout.cli.overview import format_overview
from fanout.model.errors import UsageError
from fanout.model.option_table import SETTINGS, options_of
from fanout.model.option_values import parse_option_text

TYPE_CHECKING = False  # --help pays for argparse and for nothing else: typing and dataclasses cost as much again
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from fanout.model.request import Request


class HelpRequested(Exception):
    """Text to print for --help or --version."""


def parse_arguments(argv: Sequence[str], *, columns: int = 100) -> Request:
    """Return the request. Raises UsageError, or HelpRequested for help (``columns`` wide) and version."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        raise HelpRequested(format_overview(columns))
    if argv[0] in ("-V", "--version"):
        raise HelpRequested(f"fanout {__version__}\n")
    command = COMMANDS.get(argv[0])
    if command is None:
        raise UsageError(f"unknown command {argv[0]!r}; the commands are {', '.join(COMMANDS)}", hint="fanout --help")
    chosen = build_parser(command, columns)
    head, tail = _split_argv(chosen, argv[1:], command)
    has_dashes = "--" in argv[1 : len(argv) - len(tail)]
    notes = () if command.flags_after or has_dashes else _check_stray_flags(command.name, chosen, head, tail)
    if any(word in ("-h", "--help") for word in head):
        raise HelpRequested(chosen.format_help())
    words = [_normalize_flag(word) for word in head]
    values = chosen.parse_args(words) if command.most_positionals is not None else chosen.parse_intermixed_args(words)
    return _build_request(command, vars(values), tail, notes)


def _split_argv(parser: argparse.ArgumentParser, words: Sequence[str], command: Command) -> tuple[list[str], list[str]]:
    """Return fanout's words (flags first) and the words after the last positional.

    fanout's flags may stand anywhere before the last positional. The positionals come last in the result, because
    argparse gives an optional positional no word after a flag.
    """
    takes = {option: action.nargs != 0 for action in parser._actions for option in action.option_strings}
    head: list[str] = []
    named: list[str] = []
    at = 0
    most = command.most_positionals if command.most_positionals is not None else len(words)
    while at < len(words) and len(named) < most:
        word = words[at]
        at += 1
        if word == "--":
            continue  # the words after it are positionals in any case
        if not word.startswith("-") or word == "-":
            named.append(word)
            continue
        head.append(word)
        if "=" not in word and takes.get(_normalize_flag(word), False) and at < len(words):
            head.append(words[at])
            at += 1
    tail = list(words[at:])
    if command.flags_after:  # for example after HOSTS of `hosts` and `exec`
        while tail and tail[0].startswith("-") and tail[0] != "--":
            head.append(tail.pop(0))
            if "=" not in head[-1] and takes.get(_normalize_flag(head[-1]), False) and tail:
                head.append(tail.pop(0))
    return head + named, tail[1:] if command.flags_after and tail[:1] == ["--"] else tail


def _check_stray_flags(
    verb: str, parser: argparse.ArgumentParser, head: Sequence[str], tail: Sequence[str]
) -> tuple[str, ...]:
    """Return a warning about fanout's flags after TASK: the task gets them.

    Raises UsageError for --dry-run there, because fanout would launch on all hosts instead.
    """
    own = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
    own_tail = tail[: tail.index("--")] if "--" in tail else tail
    stray = [word for word in own_tail if _normalize_flag(word).partition("=")[0] in own - {"--help"}]
    task = head[-1] if head else ""
    if any(_normalize_flag(word) == "--dry-run" for word in stray):
        import shlex

        rest = [word for word in tail if _normalize_flag(word) != "--dry-run"]
        raise UsageError(
            f"{verb}: --dry-run stands after {task}: fanout would pass it to {task} and launch the run",
            hint=shlex.join(["fanout", verb, "--dry-run", *head, *rest])
            + f"\n              to pass it to {task}:  "
            + shlex.join(["fanout", verb, *head[:-1], "--", task, *tail]),
        )
    if not stray:
        return ()
    names = ", ".join(dict.fromkeys(word.partition("=")[0] for word in stray))
    verb_form, them = ("stands", "it") if len(stray) == 1 else ("stand", "them")
    return (
        f"note: {names} {verb_form} after {task}, so {task} gets {them}; put fanout's flags before HOSTS (-- silences this)",
    )


def _normalize_flag(word: str) -> str:
    """Return the flag with dashes: like torchrun, fanout takes --nproc_per_node and --nproc-per-node."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _build_request(command: Command, values: dict[str, Any], tail: list[str], notes: tuple[str, ...]) -> Request:
    from fanout.model.request import HostFilters, Request

    _parse_values(command, values)
    named = values.pop("task", None) or ()
    task = ((named,) if isinstance(named, str) else tuple(named)) + tuple(tail)
    if command.missing_task and not task:
        message, example = command.missing_task
        raise UsageError(f"{command.name}: {message}", hint=example)
    if task and not command.takes_task:
        raise UsageError(f"{command.name}: unexpected {task[0]!r}", hint=f"fanout {command.name} --help")
    hosts = values.pop("hosts", "")
    filters = HostFilters(**{name: values.pop(name) for name in HostFilters.__slots__ if name in values})
    flags = {name: values.pop(name) for name in list(values) if name in SETTINGS}
    return Request(verb=command.name, hosts=hosts, task=task, filters=filters, flags=flags, given=values, notes=notes)


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
