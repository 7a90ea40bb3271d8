"""Full report of a finished run: first failure, its last log lines, the other hosts, leftovers, and the next command.

Pure: the input is the facts, state and outcome of the run and log tails; the output is text. A good run gives two lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from fanout.logs.tail import LogTail
from fanout.model.hosts import fold_names
from fanout.text.home_path import shorten_home
from fanout.text.paint import BOLD, BOLD_RED, GREEN, Painter
from fanout.text.sanitize import sanitize_line, sanitize_lines, sanitize_text
from fanout.text.table import count_columns
from fanout.text.units import format_duration
from fanout.text.wrap import wrap_text
from fanout.ui.background_text import describe_background, describe_outside_calls, describe_separate_groups
from fanout.ui.report_headline import build_closing_line
from fanout.ui.report_rows import (
    LABEL_WIDTH,
    ReportFacts,
    ReportRow,
    choose_title_word,
    find_unclean,
    find_unverified,
    label_rows,
    list_exit_status,
    list_leftovers,
    list_log_location,
    list_next_commands,
    list_notes,
    list_other_hosts,
)

LAST_LINES = 15
_COMMAND = re.compile(r"`[^`]*`")
_NO_BREAK = "\0"  # instead of a space within a command; a diagnosis contains none, because it is sanitized
_QUOTED = "    | "  # before a quoted line of the diagnosis
_LEAD = 2 + LABEL_WIDTH  # columns before the text of a row


def build_report(facts: ReportFacts, *, colour: bool = False, unicode: bool = True, width: int | None = None) -> str:
    """Return the full report; it ends with a newline. ``width`` is that of the terminal; None: no line is wrapped.

    Quoted lines and commands do not break, so that they can be pasted.
    """
    paint = Painter(colour)
    closing: list[str] = []
    if facts.outcome.is_success:
        lines = format_success(facts, paint, width)
    else:
        rows = [
            *list_other_hosts(facts),
            *label_rows("slow", facts.slow),
            *list_log_location(facts),
            *list_notes(facts),
            *list_leftovers(facts),
            *list_exit_status(facts),
            *list_next_commands(facts),
        ]
        lines = [
            _format_title(facts, paint, unicode=unicode),
            *wrap_diagnosis(facts.diagnosis, width, paint),
            *_format_log_tail(facts, unicode=unicode),
            *(part.format_line(paint) for row in rows for part in _wrap_row(row, width)),
        ]
        text, code = build_closing_line(facts)
        closing = [paint(code, line) for line in wrap_text(text, "", "", width)]
    return sanitize_text("\n".join([*lines, *_wrap_attempts(facts, width), *closing])) + "\n"


def wrap_diagnosis(diagnosis: Sequence[str], width: int | None, paint: Painter) -> list[str]:
    """Return the lines of a diagnosis, wrapped below their labels and harmless; the lines of the cause are bold.

    A command between backticks does not break.
    """
    wrapped: list[str] = []
    for line in (sanitize_line(line, colour=False) for line in diagnosis):
        if line.startswith(_QUOTED) or not line.startswith("  "):
            wrapped.append(line)
            continue
        text = _COMMAND.sub(lambda found: found[0].replace(" ", _NO_BREAK), line[_LEAD:])
        wrapped += [part.replace(_NO_BREAK, " ") for part in wrap_text(text, line[:_LEAD], " " * _LEAD, width)]
    begin = next((at for at, line in enumerate(wrapped) if line.strip()), 0)
    further = (at for at, line in enumerate(wrapped) if at > begin and not line.startswith(" " * _LEAD))
    end = next(further, len(wrapped))
    return [*wrapped[:begin], *(paint(BOLD, line) for line in wrapped[begin:end]), *wrapped[end:]]


def _wrap_row(row: ReportRow, width: int | None) -> list[ReportRow]:
    """Return the row as rows that fit into the terminal; the row of a command stays whole."""
    if row.colour == BOLD:
        return [row]
    first, *further = wrap_text(row.text, "", "", width and width - _LEAD)
    return [replace(row, text=first), *(replace(row, name="", text=line) for line in further)]


def _wrap_attempts(facts: ReportFacts, width: int | None) -> list[str]:
    """Return the lines about the attempts; their table, which begins with an empty line, stays as it is."""
    if facts.attempts and not facts.attempts[0]:
        return list(facts.attempts)
    return [line for text in facts.attempts for line in wrap_text(text, "", "  ", width)]


def format_success(facts: ReportFacts, paint: Painter, width: int | None) -> list[str]:
    """Return the report of a good run, without the lines about its attempts."""
    heading, outcome = facts.heading, facts.outcome
    left = "nothing is left on them" if len(outcome.hosts) > 1 else "nothing is left there"
    if outcome.outside_calls:
        left = "no process of its own is left, but " + describe_outside_calls(outcome)
    if not outcome.is_clean:
        unknown = fold_names(find_unverified(outcome))
        left = (
            f"could not verify that {unknown} is clean"
            if unknown
            else f"processes left on {fold_names(find_unclean(outcome))}"
        )
    ended = f"run {heading.run_id}: {outcome.headline} after {format_duration(outcome.seconds)}"
    fits = width is None or count_columns(f"{ended}; {left}") <= width
    lines = [
        *(
            [paint(GREEN, ended) + f"; {left}"]
            if fits
            else [paint(GREEN, f"{ended};"), *wrap_text(left, "  ", "  ", width)]
        ),
        *describe_separate_groups(facts.state),
        *describe_background(facts.state),
    ]
    if heading.log_dir:
        lines.append(f"logs: {shorten_home(heading.log_dir)}")
    return [*lines, *(f"slow: {sanitize_line(each, colour=False)}" for each in facts.slow)]


def _format_title(facts: ReportFacts, paint: Painter, *, unicode: bool) -> str:
    outcome = facts.outcome
    bar = ("━" if unicode else "=") * 3
    word = choose_title_word(facts.state, outcome)
    title = f"{bar} run {facts.heading.run_id} {word} after {format_duration(outcome.seconds)} {bar}"
    return "\n".join([paint(BOLD_RED, title), *(paint(BOLD, line) for line in sanitize_lines(outcome.headline))])


def _format_log_tail(facts: ReportFacts, *, unicode: bool) -> list[str]:
    first = facts.outcome.first
    if first is None:
        return [""]
    host = next(host for host in facts.outcome.hosts if host.host == first)
    if host.verdict in ("unreached", "refused"):
        return [""]
    tail = facts.log_tails.get(first)
    if tail is None:
        return [""]
    if not tail.lines:
        return ["", f"  {first} printed no output.", ""]
    rank = facts.heading.ranks.get(first)
    node = f" (node {rank[0]})" if rank else ""
    bar = "│" if unicode else "|"
    shown, whole = select_last_lines(tail)
    what = "its traceback" if whole else "last lines"
    return ["", f"  {tail.speaker}{node}, {what}:", *(f"    {bar} {line}".rstrip() for line in shown), ""]


def select_last_lines(tail: LogTail) -> tuple[tuple[str, ...], bool]:
    """Return the lines of a log to quote, and whether they are only a traceback.

    A traceback is quoted in full. If it ends within the last lines, the lines after it are quoted too.
    """
    lines, block = tail.lines[-LAST_LINES:], tail.traceback
    if not block:
        return lines, False
    if block[-1] in lines:  # the end is near: the traceback and what came after it
        after = lines[len(lines) - list(reversed(lines)).index(block[-1]) :]
        return (*block, *after), False
    return block, True
