"""Completion of a command line: what may stand at the cursor, from the command table and the option table. Pure."""

from __future__ import annotations

from fanout.cli.command_line import SplitCommandLine, list_flags, normalize_flag, split_command_line
from fanout.cli.command_table import COMMANDS
from fanout.cli.help_topics import TOPICS
from fanout.model.completion import Completion
from fanout.model.errors import UsageError
from fanout.model.option import Option

TYPE_CHECKING = False  # each press of Tab starts fanout
if TYPE_CHECKING:
    from collections.abc import Sequence

    from fanout.cli.command_table import Command

#: Metavar of a value -> the kinds of words that it may be.
VALUE_KINDS: dict[str, tuple[str, ...]] = {
    "FILE": ("files",),
    "DIR": ("directories",),
    "DIR|auto|none": ("directories",),
    "FILE|CMD": ("files",),
    "NODES": ("hosts",),
    "SPEC": ("hosts",),
    "CMD": ("files",),
}
#: The same for single options, whose metavar has several meanings.
OPTION_KINDS: dict[str, tuple[str, ...]] = {"--host": ("hosts",), "--notify": ("services",), "--test": ("services",)}
#: Metavar of a positional -> the kinds of words that it may be.
POSITIONAL_KINDS: dict[str, tuple[str, ...]] = {
    "HOSTS": ("files", "known-hosts"),
    "TASK": ("files",),
    "FILE": ("files",),
    "DIR": ("files",),
    "FILE|DIR|RUN|-": ("files", "runs"),
}
POSITIONAL_WORDS: dict[str, tuple[str, ...]] = {
    "FORMAT": ("slurm", "kubernetes", "skypilot", "dstack"),
    "SHELL": ("bash", "zsh", "fish"),
}
EXTRA_WORDS: dict[str, tuple[str, ...]] = {"--venv": ("auto", "none"), "--hang-timeout": ("auto",), "--pick": ("free",)}
ACTIVE_VERBS = ("attach", "stop", "stacks")  # their RUN is an active run


def complete_words(words: Sequence[str]) -> Completion:
    """Return what may replace the last word, which may be empty. ``words`` are those after ``fanout``."""
    before, current = _join_equals(words)
    if not before or before[0] == "help":
        names = [(name, command.summary) for name, command in COMMANDS.items()]
        more = [(topic, "") for topic in TOPICS] if before else [("help", "explain a command or a topic")]
        flags = [] if before else [("--help", "list the commands"), ("--version", "print the version")]
        return Completion(words=(*names, *more, *flags))
    command = COMMANDS.get(before[0])
    if command is None:
        return Completion()
    try:
        line = split_command_line(command, before[1:])
    except UsageError:
        return Completion()  # for example after -m, whose module no file names
    return _complete_in_command(command, line, before[1:], current)


def _join_equals(words: Sequence[str]) -> tuple[list[str], str]:
    """Return the words before the cursor, and the current one. bash splits ``--output=json`` at the sign."""
    joined = list(words) or [""]
    if len(joined) > 1 and joined[-1] == "=":
        return joined[:-1], ""
    if len(joined) > 2 and joined[-2] == "=":
        del joined[-2]
    for at in range(len(joined) - 3, 0, -1):
        if joined[at] == "=" and joined[at - 1].startswith("--"):
            joined[at - 1 : at + 2] = ["=".join((joined[at - 1], joined[at + 1]))]
    return joined[:-1], joined[-1]


def _complete_in_command(command: Command, line: SplitCommandLine, before: Sequence[str], current: str) -> Completion:
    flags = list_flags(command)
    last = normalize_flag(before[-1]) if before else ""
    option = flags.get(last)
    hosts = _find_hosts_word(command, line)
    if option is not None and not option.implied and line.head and line.head[-1] == before[-1] and not line.tail:
        return _complete_value(option, hosts)
    most = command.most_positionals
    is_full = most is not None and len(line.positionals) >= most
    is_literal = line.literal or "--" in before
    if line.tail or (is_full and command.takes_task and (is_literal or not command.flags_after)):
        is_command = command.name == "exec" and not line.tail
        return Completion(kinds=("commands",) if is_command else ("files",), hosts=hosts)
    if current.startswith("-") and not is_literal:
        return _complete_flag(command, line, current, hosts)
    if is_full:
        return _complete_flag(command, line, current, hosts) if command.flags_after else Completion()
    word = (
        command.positionals[min(len(line.positionals), len(command.positionals) - 1)] if command.positionals else None
    )
    if word is None:
        return Completion()
    if word.metavar == "RUN":
        return Completion(kinds=("active-runs" if command.name in ACTIVE_VERBS else "runs",), hosts=hosts)
    return Completion(
        words=tuple((value, "") for value in POSITIONAL_WORDS.get(word.metavar, ())),
        kinds=POSITIONAL_KINDS.get(word.metavar, ()),
        hosts=hosts,
    )


def _complete_flag(command: Command, line: SplitCommandLine, current: str, hosts: str) -> Completion:
    """Complete a flag, or the value after its ``=``."""
    flags = list_flags(command)
    name, equals, _ = normalize_flag(current).partition("=")
    option = flags.get(name)
    if equals:
        return _complete_value(option, hosts, prefix=f"{name}=") if option is not None else Completion()
    used = {normalize_flag(flag).partition("=")[0] for flag in line.flags}
    rows = _list_options(command)
    words = [
        (flag, row.format_help(command.name))
        for row in rows
        for flag in row.flags
        if flag.startswith("--") and (row.kind is tuple or not used & set(row.flags))
    ]
    return Completion(words=(*words, ("--help", "explain the command")))


def _complete_value(option: Option, hosts: str, *, prefix: str = "") -> Completion:
    values = (*option.choices, *EXTRA_WORDS.get(option.long_flag, ()))
    kinds = OPTION_KINDS.get(option.long_flag) or VALUE_KINDS.get(option.metavar, ())
    return Completion(words=tuple((value, "") for value in values), kinds=kinds, prefix=prefix, hosts=hosts)


def _list_options(command: Command) -> list[Option]:
    from fanout.model.option_table import options_of

    return [row for group in ("", *command.groups) for row in options_of(command.name, group) if row.flags]


def _find_hosts_word(command: Command, line: SplitCommandLine) -> str:
    """Return HOSTS of the command line, "" without it."""
    for row, word in zip(command.positionals, line.positionals, strict=False):
        if row.metavar == "HOSTS":
            return word
    return ""
