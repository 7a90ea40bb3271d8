"""Line wrapping for messages, findings and advice: prose breaks at spaces, a command does not break, so that it can be pasted. Pure.

In these texts, two or more spaces separate a command from prose: ``open it on h1:  sudo ufw …   or  sudo …``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_PROGRAMS = (
    "ssh", "sudo", "scp", "tar", "git", "rm", "kill", "pip", "python", "python3", "torchrun", "fanout", "nvidia-smi",
    "nc", "ulimit",
)  # fmt: skip
_TYPED = re.compile(rf"(?:{'|'.join(map(re.escape, _PROGRAMS))})\s|-\S|\S+ [\w.]+=\S|[\w.]+=\S")
_GAP = re.compile(r"( {2,})")
_WORD = re.compile(r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"])+")
_LEAST = 30  # columns for text, however narrow the terminal
_MESSAGE_INDENT = 8  # columns before the further lines of a message, and before the commands below it


def wrap_text(text: str, lead: str, indent: str, width: int | None, *, typed: bool = False) -> list[str]:
    """Return ``lead`` and ``text`` as lines, further lines after ``indent``; one line if ``width`` is None.

    ``typed``: the text contains commands.
    """
    if width is None:
        return [(lead + text).rstrip()]
    width = max(width, len(indent) + _LEAST)
    lines, line, start = [], lead, len(lead)
    for gap, unit in _split_units(text, typed):
        if len(line) == start:
            gap = ""
        if len(line) + len(gap) + len(unit) > width and len(line) > start:
            lines.append(line.rstrip())
            line, start, gap = indent, len(indent), ""
        *before, line_end = _split_command(unit, width - len(line) - len(gap), width - len(indent))
        for part in before:
            lines.append(line + gap + part)
            line, start, gap = indent, len(indent), ""
        line += gap + line_end
    return [*lines, line.rstrip()]


def wrap_message(text: str, width: int | None, *, lead: str = "fanout: ") -> str:
    """Return a message with ``lead`` before it, wrapped. Quoted lines and commands below it do not break."""
    first, *further = text.split("\n")
    lines = wrap_text(first, lead, " " * _MESSAGE_INDENT, width, typed=True)
    if first.startswith(" "):  # a line below an earlier message
        lines, further = [], [first, *further]
    for line in further:
        content = line.lstrip(" ")
        indent = line[: len(line) - len(content)]
        is_quoted = len(indent) >= 4 or not content.strip("^ ")
        lines += [line] if is_quoted else wrap_text(content, indent, indent + "  ", width, typed=True)
    return "\n".join(lines)


def _split_units(text: str, typed: bool) -> Iterator[tuple[str, str]]:
    """Yield (the spaces before it, a word of prose or a whole command), in order."""
    gap = ""
    for part in _GAP.split(text):
        if _GAP.fullmatch(part):
            gap = part
        elif typed and _TYPED.match(part.lstrip("(")):
            yield gap, part
        else:
            for word in part.split():
                yield gap, word
                gap = " "


def _split_command(unit: str, first: int, further: int) -> list[str]:
    """Split a command that is too long for a line with ``\\`` at line ends; return anything else unchanged."""
    if len(unit) <= first or " " not in unit or not unit.startswith(("-", *_PROGRAMS)):
        return [unit]
    lines, line, width = [], "", first
    for word in _WORD.findall(unit):
        if line and len(line) + len(word) + 3 > width:
            lines.append(line + " \\")
            line, width = "  " + word, further
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def break_host_set(hosts: str, width: int) -> list[str]:
    """Break a folded set of hosts after commas into lines of at most ``width``."""
    lines, line = [], ""
    for part in re.split(r"(?<=,)", hosts):
        if line and len(line) + len(part) > width:
            lines.append(line)
            line = ""
        line += part
    return [*lines, line]
