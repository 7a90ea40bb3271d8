"""Colours of fanout's own text, as SGR sequences. Pure. Paint a line after its layout, because columns are counted."""

from __future__ import annotations

import re
from collections.abc import Sequence

BOLD, RED, GREEN, YELLOW, CYAN = "1", "31", "32", "33", "36"
BOLD_RED = "1;31"

#: The symbols of a check before a host, with and without Unicode.
_SYMBOL = re.compile(r"(?P<before> {0,2})(?P<symbol>✓|✗|ok|x|!)(?P<after> {1,3}\S)")
_SYMBOL_COLOURS = {"✓": GREEN, "ok": GREEN, "✗": RED, "x": RED, "!": YELLOW}
_NEXT = "next:  "  # before the command after the verdict
_HEADINGS = {"FAILED": BOLD_RED, "WARNINGS": f"{BOLD};{YELLOW}"}
_HEADING = re.compile(r"[A-Z]{3,}(?: [A-Z]{2,})*(?= \S|$)")
_STATES = ((re.compile(r"running|succeeded|ended \((?:exit )?0\)"), GREEN), (re.compile(r"(?:failed|ended)(?: \([^()]+\))?|hung|died"), RED),
           (re.compile(r"launcher lost|not launched|stopped|stopping|fenced|waiting to restart|restarting|ending|stuck|unkillable"), YELLOW))  # fmt: skip


class Painter:
    """Function that paints a text if this output is coloured."""

    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def __call__(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text


def paint_check_report(lines: Sequence[str], paint: Painter) -> list[str]:
    """Return the lines of a check's report with coloured symbols and headings; the verdict has its colour."""
    if not paint.colour or not lines:
        return list(lines)
    verdict = len(lines) - (2 if lines[-1].startswith(_NEXT) else 1)
    painted = [_paint_check_line(line, paint) for line in lines[:verdict]]
    failed = "FAILED" in lines
    further = [_NEXT + paint(BOLD, line.removeprefix(_NEXT)) for line in lines[verdict + 1 :]]
    return [*painted, paint(BOLD_RED if failed else GREEN, lines[verdict]), *further]


def _paint_check_line(line: str, paint: Painter) -> str:
    if line in _HEADINGS:
        return paint(_HEADINGS[line], line)
    symbol = _SYMBOL.match(line)
    if symbol is not None:
        shown = paint(_SYMBOL_COLOURS[symbol["symbol"]], symbol["symbol"])
        return symbol["before"] + shown + line[symbol.start("after") :]
    heading = _HEADING.match(line)
    if heading is not None:
        return paint(BOLD, heading[0]) + line[heading.end() :]
    before, mark, command = line.partition("try:  ")
    return f"{before}{mark}{paint(BOLD, command)}" if mark and not before.strip() else line


def paint_run_table(lines: Sequence[str], paint: Painter) -> list[str]:
    """Return a table of runs with a bold header and coloured states."""
    if not paint.colour or not lines:
        return list(lines)
    at = max(0, lines[0].find("STATE"))
    return [paint(BOLD, lines[0]), *(_paint_state(line, at, paint) for line in lines[1:])]


def _paint_state(line: str, at: int, paint: Painter) -> str:
    """Paint the state, which begins at this position."""
    for pattern, code in _STATES:
        found = pattern.match(line, at)
        if found is not None:
            return line[:at] + paint(code, found[0]) + line[found.end() :]
    return line
