"""The text of ``fanout``: what it does, and its commands in groups. It imports as little as possible."""

from __future__ import annotations

from fanout.cli.command_table import COMMANDS, SECTIONS
from fanout.cli.help_format import choose_width
from fanout.cli.help_topics import TOPICS

FIRST = "fanout launches multi-host PyTorch training over SSH."
EXAMPLES = (
    ("fanout check hosts.txt", "check that the hosts can train"),
    ("fanout run hosts.txt task.py cfg.yaml", "check, launch on all hosts, diagnose"),
)


def format_overview(columns: int) -> str:
    """Return the text of ``fanout`` and ``fanout --help``, at most 22 lines."""
    width = max(len(example) for example, _ in EXAMPLES)
    lines = [FIRST, *(f"  {example:<{width}}  {text}" for example, text in EXAMPLES), ""]
    for section in SECTIONS:
        rows = [(name, command.summary) for name, command in COMMANDS.items() if command.section == section]
        for number, (name, summary) in enumerate(rows):
            lines.append(f"{'' if number else section:<8}{name:<8}{summary}")
    rest = [name for name, command in COMMANDS.items() if not command.section]
    lines += [f"{'more':<8}{', '.join(rest)}"]
    lines += [f"Details: fanout help COMMAND, {', '.join(TOPICS[:-1])} or {TOPICS[-1]}"]
    return "".join(f"{line[: choose_width(columns)].rstrip()}\n" for line in lines)
