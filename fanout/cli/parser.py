"""Command line parser: argv becomes a Request with the command, HOSTS, the task and the given flags. Pure.

All words after TASK belong to the task, with or without ``--``. The parser splits argv there before argparse sees it,
because argparse drops the task's ``--`` and other parsers take its flags.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any, NoReturn

from fanout import __version__
from fanout.cli.options import COMMANDS, parser_options
from fanout.cli.overview import format_overview
from fanout.model.errors import UsageError
from fanout.model.number_ranges import range_error
from fanout.model.request import HostFilters, Request
from fanout.model.settings import Settings


class _ArgumentParser(argparse.ArgumentParser):
    """argparse parser that raises UsageError instead of printing and exiting."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog.removeprefix('fanout ')}: {message}", hint=f"{self.prog} --help")


class HelpRequested(Exception):
    """Text to print for --help or --version."""


def parse_arguments(argv: Sequence[str], *, columns: int = 100) -> Request:
    """Return the request. Raises UsageError, or Shown for help (``columns`` wide) and version."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        raise HelpRequested(format_overview(columns))
    if argv[0] in ("-V", "--version"):
        raise HelpRequested(f"fanout {__version__}\n")
    verb = argv[0]
    if verb not in COMMANDS:
        raise UsageError(f"unknown command {verb!r}; the commands are {', '.join(COMMANDS)}", hint="fanout --help")
    chosen = _build_parser(verb, columns)
    head, tail = _split_argv(chosen, argv[1:], _POSITIONALS[verb], flags_after=verb not in ("run", "check", "why"))
    before_task = argv[1 : len(argv) - len(tail)]
    notes = _check_stray_flags(verb, chosen, head, tail) if verb in ("run", "check") and "--" not in before_task else ()
    if any(word in ("-h", "--help") for word in head):
        raise HelpRequested(chosen.format_help())
    words = [_normalize_flag(word) for word in head]
    values = chosen.parse_intermixed_args(words) if verb == "why" else chosen.parse_args(words)
    return _build_request(verb, vars(values), tail, notes)


#: Number of positional words before the words of the task (or of the command of ``exec``).
_POSITIONALS = {
    "run": 2,
    "check": 2,
    "hosts": 1,
    "exec": 1,
    "logs": 1,
    "report": 1,
    "stop": 2,
    "attach": 2,
    "ps": 1,
    "clean": 1,
    "replay": 1,
    "lnav": 0,
    "stacks": 1,
    "why": 10_000,
    "demo": 0,
}


def _split_argv(
    parser: argparse.ArgumentParser, words: Sequence[str], positionals: int, *, flags_after: bool
) -> tuple[list[str], list[str]]:
    """Return fanout's words (flags first) and the words after the last positional.

    fanout's flags may stand anywhere before the last positional. The positionals come last in the result, because
    argparse gives an optional positional no word after a flag.
    """
    takes = {option: action.nargs != 0 for action in parser._actions for option in action.option_strings}
    head: list[str] = []
    named: list[str] = []
    at = 0
    while at < len(words) and len(named) < positionals:
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
    if flags_after:  # for example after HOSTS of `hosts` and `exec`
        while tail and tail[0].startswith("-") and tail[0] != "--":
            head.append(tail.pop(0))
            if "=" not in head[-1] and takes.get(_normalize_flag(head[-1]), False) and tail:
                head.append(tail.pop(0))
    return head + named, tail[1:] if flags_after and tail[:1] == ["--"] else tail


def _check_stray_flags(
    verb: str, parser: argparse.ArgumentParser, head: Sequence[str], tail: Sequence[str]
) -> tuple[str, ...]:
    """Return a warning about fanout's flags after TASK: the task gets them.

    Raises UsageError for --dry-run there, because fanout would launch on all hosts instead.
    """
    own = {option for action in parser._actions for option in action.option_strings if option.startswith("--")}
    looked_at = tail[: tail.index("--")] if "--" in tail else tail
    stray = [word for word in looked_at if _normalize_flag(word).partition("=")[0] in own - {"--help"}]
    task = head[-1] if head else ""
    if any(_normalize_flag(word) == "--dry-run" for word in stray):
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
    verbs, them = ("stands", "it") if len(stray) == 1 else ("stand", "them")
    return (
        f"note: {names} {verbs} after {task}, so {task} gets {them}; put fanout's flags before HOSTS (-- silences this)",
    )


def _normalize_flag(word: str) -> str:
    """Return the flag with dashes: like torchrun, fanout takes --nproc_per_node and --nproc-per-node."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def _build_request(verb: str, values: dict[str, Any], tail: list[str], notes: tuple[str, ...]) -> Request:
    named = values.pop("task", None) or ()
    task = ((named,) if isinstance(named, str) else tuple(named)) + tuple(tail)
    if verb == "exec" and not task:
        raise UsageError("exec: no command given", hint="fanout exec HOSTS -- nvidia-smi -L")
    if verb == "why" and not task:
        raise UsageError("why: no log file given", hint="fanout why gpu01.log gpu02.log, or fanout why DIR")
    if verb not in ("run", "check", "exec", "why") and task:
        raise UsageError(f"{verb}: unexpected {task[0]!r}", hint=f"fanout {verb} --help")
    hosts = values.pop("hosts", "")
    filters = HostFilters(**{name: values.pop(name) for name in HostFilters.__slots__ if name in values})
    known = set(Settings.__slots__)
    flags = {name: values.pop(name) for name in list(values) if name in known}
    for name, flag in (("lines", "--lines"), ("count", "--hosts")):
        if values.get(name) is not None and (wrong := range_error(name, values[name])):
            raise UsageError(f"{flag} {wrong}")
    return Request(verb=verb, hosts=hosts, task=task, filters=filters, flags=flags, given=values, notes=notes)


def _build_parser(verb: str, columns: int) -> argparse.ArgumentParser:
    """Return the parser of one command. To build the parsers of all commands takes longer than to parse."""
    usage, about, build = COMMANDS[verb]
    parser = _ArgumentParser(
        prog=f"fanout {verb}", usage=f"fanout {verb} {usage}", description=about, **parser_options(columns)
    )
    build(parser)
    return parser
