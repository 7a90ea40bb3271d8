"""Short report of a finished run: the cause, its traceback, the next command, and the headline again as the last line.

A failed run gives at most LONGEST lines on a terminal of 80 columns. The full report has the rest. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fanout.model.frozen import frozen
from fanout.text.home_path import shorten_home
from fanout.text.paint import BOLD, BOLD_RED, Painter
from fanout.text.sanitize import sanitize_line, sanitize_text
from fanout.text.table import count_columns, cut_text
from fanout.text.wrap import wrap_text
from fanout.ui.key_lines import select_key_lines
from fanout.ui.report_headline import build_closing_line, build_headline
from fanout.ui.report_rows import (
    ReportFacts,
    ReportRow,
    has_log,
    label_rows,
    list_exit_status,
    list_leftovers,
    list_next_commands,
    list_notes,
    list_other_hosts,
)
from fanout.ui.run_report import format_success, select_last_lines

LONGEST = 14  # lines, without those about attempts
_HEADLINE_LINES = 2
_BARS = 8  # columns of the bars around the first line
_LEAST_QUOTED, _MOST_QUOTED = 3, 7
_MOST_ROWS = 4  # of any other part


@frozen
class ReportPart:
    """Lines about one subject. ``take_lines`` returns the best of them in at most so many lines, up to ``size``.

    The parts get ``least`` lines in the order of ``priority``, and then, in the same order, as many as they have.
    """

    take_lines: Callable[[int], Sequence[str]]
    size: int
    priority: int
    least: int = 1


def build_short_report(
    facts: ReportFacts, *, colour: bool = False, unicode: bool = True, width: int | None = None
) -> str:
    """Return the report; it ends with a newline. ``width`` is that of the terminal; None: no line is cut or wrapped."""
    paint = Painter(colour)
    if facts.outcome.is_success:
        return sanitize_text("\n".join([*format_success(facts, paint, width), *facts.attempts])) + "\n"
    bar = ("━" if unicode else "=") * 3
    longest = None if width is None else _HEADLINE_LINES * (width - _BARS)
    headline = build_headline(facts, longest)
    framed = f"{bar} {headline} {bar}"
    head = wrap_text(framed if width is None or count_columns(framed) <= width else f"{bar} {headline}", "", "", width)
    closing, code = build_closing_line(facts, longest)
    last = wrap_text(closing, "", "", width)
    parts = [_build_quote(facts, width, unicode=unicode), *_build_rows(facts, paint, width, unicode=unicode)]
    has_table = bool(facts.attempts) and not facts.attempts[0]  # a table begins with an empty line
    notes = [] if has_table else [line for text in facts.attempts for line in wrap_text(text, "", "  ", width)]
    room = LONGEST - len(head) - len(last) - len(notes)
    body = _share_room(parts, room)
    table = facts.attempts if has_table else ()
    painted = [paint(BOLD_RED, line) for line in head], [paint(code, line) for line in last]
    text = sanitize_text("\n".join([*painted[0], *body, *notes, *table, *painted[1]])) + "\n"
    return text if unicode else text.replace("…", "..")


def _share_room(parts: Sequence[ReportPart], room: int) -> list[str]:
    """Return the lines of the parts from top to bottom, in at most ``room`` lines."""
    granted = [0] * len(parts)
    order = sorted(range(len(parts)), key=lambda at: parts[at].priority)
    for most in ([min(part.least, part.size) for part in parts], [part.size for part in parts]):
        for at in order:
            more = max(0, min(room, most[at] - granted[at]))
            granted[at] += more
            room -= more
    return [line for part, count in zip(parts, granted, strict=True) if count for line in part.take_lines(count)]


def _build_quote(facts: ReportFacts, width: int | None, *, unicode: bool) -> ReportPart:
    """Return the traceback or the last lines of the cause, else those of the host that failed first."""
    summary, first = facts.summary, facts.outcome.first
    bar = "    │ " if unicode else "    | "
    lines, error = (summary.quote, summary.error) if summary is not None else ((), "")
    tail = facts.log_tails.get(first or "")
    if not lines and tail is not None and has_log(facts.outcome):
        lines = select_last_lines(tail)[0] or (f"({first} printed no output)",)
    lines, error = tuple(sanitize_line(line, colour=False) for line in lines), sanitize_line(error, colour=False)

    def take_lines(count: int) -> list[str]:
        chosen = [bar + line for line in select_key_lines(lines, error, count)]
        return chosen if width is None else [cut_text(line, width) for line in chosen]

    return ReportPart(take_lines=take_lines, size=min(_MOST_QUOTED, len(lines)), least=_LEAST_QUOTED, priority=4)


def _build_rows(facts: ReportFacts, paint: Painter, width: int | None, *, unicode: bool) -> list[ReportPart]:
    """Return the parts that are rows, from top to bottom."""
    summary, heading, dots = facts.summary, facts.heading, "…" if unicode else "..."

    def build(rows: Sequence[ReportRow], priority: int, least: int = 1) -> ReportPart:
        lines = [line for row in rows for line in _lay_out_row(row, width)]

        def take_lines(count: int) -> list[str]:
            chosen = lines[:count]
            if count < len(lines):
                last = chosen[-1]
                text = last.text if width is None else cut_text(last.text, width - len(last.lead) - 2, ellipsis="")
                chosen[-1] = replace(last, text=f"{text} {dots}")
            return [row.format_line(paint) for row in chosen]

        return ReportPart(take_lines=take_lines, size=min(_MOST_ROWS, len(lines)), priority=priority, least=least)

    commands = list_next_commands(facts, short=True)
    full = ReportRow(name="" if commands else "next", text=f"fanout report --full {heading.run_id}", colour=BOLD)
    return [
        build(label_rows("stacks", summary.stands if summary else ()), 1 if facts.outcome.hung else 9, least=2),
        build(label_rows("confidence", [summary.confidence] if summary and summary.confidence else ()), 6),
        build(label_rows("try", summary.advice if summary else ()), 7),
        build(label_rows("on the hosts", summary.hosts if summary else ()), 7),
        build(list_other_hosts(facts), 8),
        build(label_rows("slow", facts.slow), 9),
        build(list_notes(facts), 3),
        build(label_rows("logs", [shorten_home(heading.log_dir)] if heading.log_dir else ()), 2),
        build(list_leftovers(facts), 0),
        build(list_exit_status(facts), 2),
        build(commands, 1),
        build([full], 1),
    ]


def _lay_out_row(row: ReportRow, width: int | None) -> list[ReportRow]:
    """Return the row as rows that fit into the terminal. Commands are bold, and do not break."""
    indent = " " * len(row.lead)
    first, *further = wrap_text(row.text, row.lead, indent, width, typed=row.colour == BOLD)
    return [
        replace(row, text=first[len(indent) :]),
        *(replace(row, name="", text=line[len(indent) :]) for line in further),
    ]
