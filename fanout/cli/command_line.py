"""Command line of one command: which words are fanout's flags, its positionals, and the words of the task. Pure.

fanout splits argv before argparse sees it, because argparse drops the task's ``--`` and takes its flags.
"""

from __future__ import annotations

from fanout.cli.command_table import COMMANDS
from fanout.model.errors import UsageError
from fanout.model.option_table import options_of
from fanout.model.task_words import MODULE_FLAGS, is_program_name

TYPE_CHECKING = False  # a help page must not pay for typing
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fanout.cli.command_table import Command
    from fanout.model.option import Option

_LONGEST_SECONDS = 5  # digits of a duration without a unit


class SplitCommandLine:
    """Words of a command line, by their role. ``literal``: ``--`` stands before the words of the task.

    ``head`` has the flags with their values, in order; ``flags`` are the flags alone. ``options`` has the same for
    argparse: each value is attached to its flag, because it may begin with a dash. A HOSTS that is left out is "".
    """

    def __init__(self) -> None:
        self.head: list[str] = []
        self.flags: list[str] = []
        self.options: list[str] = []
        self.positionals: list[str] = []
        self.tail: list[str] = []
        self.literal = False
        self.module = ""

    @property
    def task(self) -> list[str]:
        """Return the words of the task without its arguments: the last positional, or ``-m MODULE``."""
        return ["-m", self.module] if self.module else self.positionals[-1:]

    @property
    def words_before_task(self) -> list[str]:
        """Return the positionals before the task."""
        return [word for word in (self.positionals if self.module else self.positionals[:-1]) if word]


def split_command_line(command: Command, words: Sequence[str]) -> SplitCommandLine:
    """Split the words after the command's name.

    fanout's flags may stand anywhere before the last positional. HOSTS is left out if the first word is a program, or
    if ``--`` comes before the command of ``exec``.
    """
    takes = list_flags(command)
    line = SplitCommandLine()
    rest = list(words)
    most = command.most_positionals if command.most_positionals is not None else len(words)
    while rest and len(line.positionals) < most:
        word = rest.pop(0)
        if command.has_task and word.partition("=")[0] in MODULE_FLAGS:
            _take_module(command, line, word, rest)
            most = len(line.positionals)
        elif word == "--":
            line.literal = True
            if command.flags_after and command.takes_task and not line.positionals:
                line.positionals.append("")
        elif word.startswith("-") and word != "-":
            _take_flag(line, word, rest, takes)
        else:
            if command.takes_hosts_and_task and not line.positionals and not line.literal and is_program_name(word):
                line.positionals.append("")
            line.positionals.append(word)
    if command.flags_after:  # for example after HOSTS of `hosts` and `exec`
        while rest and rest[0].startswith("-") and rest[0] != "--":
            _take_flag(line, rest.pop(0), rest, takes)
    line.tail = rest[1:] if command.flags_after and rest[:1] == ["--"] else rest
    return line


def _take_module(command: Command, line: SplitCommandLine, word: str, rest: list[str]) -> None:
    """Take the module of the task. Raises UsageError without one, or for a file."""
    flag, equals, module = word.partition("=")
    if not equals and rest:
        module = rest.pop(0)
    names = [row.name for row in command.positionals]
    line.positionals += [""] * (names.index("task") - len(line.positionals))
    line.module = module
    meant = ["fanout", command.name, *line.head, *filter(None, line.positionals)]
    if not module or module.startswith("-"):
        meant += ["-m", "package.module", "cfg.yaml"]
        raise UsageError(f"{command.name}: {flag} needs the name of a module", hint=" ".join(meant))
    if "/" in module or is_program_name(module):
        meant += [module, *rest]
        raise UsageError(
            f"{command.name}: {flag} takes a module such as package.module, and {module} is a file",
            hint=" ".join(meant),
        )


def _take_flag(line: SplitCommandLine, word: str, rest: list[str], takes: dict[str, Option | None]) -> None:
    """Move a flag, and its value if it takes one, to the flags of fanout."""
    line.flags.append(word)
    line.head.append(word)
    flag = normalize_flag(word)
    line.options.append(flag)
    option = takes.get(flag)
    if "=" in word or option is None:
        return
    if option.implied and not (rest and _is_duration(rest[0])):
        line.options[-1] = f"{flag}={option.implied}"
        return
    if not rest:
        return
    value = rest.pop(0)
    line.head.append(value)
    if flag.startswith("--"):
        line.options[-1] = f"{flag}={value}"
    else:
        line.options.append(value)


def _is_duration(word: str) -> bool:
    """Return whether the word is a duration and not a part of a run id, which may have only digits."""
    from fanout.text.parse_units import parse_duration

    return parse_duration(word) is not None and not (word.isdigit() and len(word) > _LONGEST_SECONDS)


def normalize_flag(word: str) -> str:
    """Return the flag with dashes: like torchrun, fanout takes --nproc_per_node and --nproc-per-node."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def check_flags(command: Command, line: SplitCommandLine, argv: Sequence[str]) -> None:
    """Check that the command has all flags. Raises UsageError with the command line that was probably meant."""
    known = list_flags(command)
    for word in line.flags:
        flag = normalize_flag(word).partition("=")[0]
        if flag in known or (not flag.startswith("--") and flag[:2] in known):
            continue
        others = [name for name in COMMANDS if flag in list_flags(COMMANDS[name])]
        if others:
            used = f"a flag of {', '.join(others[:3])}{' and others' if len(others) > 3 else ''}"
            raise UsageError(
                f"{command.name}: unknown flag {flag}; it is {used}", hint=f"fanout help {command.name} --all"
            )
        raise UsageError(f"{command.name}: unknown flag {flag}", hint=_correct_flag(command, word, known, argv))


def _correct_flag(command: Command, word: str, known: Iterable[str], argv: Sequence[str]) -> str:
    """Return the command line with the nearest known flag, or the command for the help page."""
    import shlex

    from fanout.text.suggest import find_nearest

    name, equals, value = normalize_flag(word).partition("=")
    near = find_nearest(name, [flag for flag in known if flag.startswith("--")], likeness=0.7)
    if not near:
        return f"fanout help {command.name} --all"
    at = list(argv).index(word)
    return shlex.join(["fanout", *argv[:at], f"{near[0]}{equals}{value}", *argv[at + 1 :]])


def check_stray_flags(command: Command, line: SplitCommandLine) -> tuple[str, ...]:
    """Return a warning about fanout's flags after TASK: the task gets them.

    Raises UsageError for --dry-run there, because fanout would launch on all hosts instead.
    """
    tail, task = line.tail, " ".join(line.task)
    own = {flag for flag in list_flags(command) if flag.startswith("--")}
    own_tail = tail[: tail.index("--")] if "--" in tail else tail
    stray = [word for word in own_tail if normalize_flag(word).partition("=")[0] in own - {"--help"}]
    if any(normalize_flag(word) == "--dry-run" for word in stray):
        import shlex

        verb, hosts = command.name, line.words_before_task
        rest = [word for word in tail if normalize_flag(word) != "--dry-run"]
        raise UsageError(
            f"{verb}: --dry-run stands after {task}: fanout would pass it to {task} and launch the run",
            hint=shlex.join(["fanout", verb, "--dry-run", *line.head, *hosts, *line.task, *rest])
            + f"\n              to pass it to {task}:  "
            + shlex.join(["fanout", verb, *line.head, *hosts, "--", *line.task, *tail]),
        )
    if not stray:
        return ()
    names = ", ".join(dict.fromkeys(word.partition("=")[0] for word in stray))
    verb_form, them = ("stands", "it") if len(stray) == 1 else ("stand", "them")
    return (
        f"note: {names} {verb_form} after {task}, so {task} gets {them}; put fanout's flags before HOSTS (-- silences this)",
    )


def list_flags(command: Command) -> dict[str, Option | None]:
    """Return each flag of the command, with its option if it takes a value."""
    rows = [row for group in ("", *command.groups) for row in options_of(command.name, group)]
    takes = {flag: None if row.const or row.kind is bool else row for row in rows for flag in row.flags}
    return takes | {"-h": None, "--help": None}
