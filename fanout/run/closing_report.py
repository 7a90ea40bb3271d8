"""Closing report of a run, for the commands that end a run or show it again: the facts of its report, short or full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from fanout.diagnose import verdict_text
from fanout.diagnose.verdict import Verdict
from fanout.logs.tail import LogTails
from fanout.model.outcome import RunOutcome
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.run import diagnosis
from fanout.run.command_context import CommandContext
from fanout.run.process_context import ProcessContext
from fanout.ui.display_mode import DisplayMode, choose_text_style
from fanout.ui.report_rows import ReportFacts
from fanout.ui.run_report import build_report
from fanout.ui.short_report import build_short_report

LEAST_WIDTH = 60  # columns, also on a narrower terminal


def build_facts(
    heading: RunInfo,
    state: RunState,
    outcome: RunOutcome,
    verdict: Verdict | None,
    tails: LogTails,
    *,
    slow: Sequence[str] = (),
    missing: Sequence[str] = (),
) -> ReportFacts:
    """Return the facts of the report: those of the run, and the texts of its verdict."""
    return ReportFacts(
        heading=heading,
        state=state,
        outcome=outcome,
        log_tails=diagnosis.select_last_lines(tails, outcome, verdict),
        diagnosis=verdict_text.render_lines(verdict) if verdict is not None else (),
        summary=verdict_text.summarize_verdict(verdict) if verdict is not None else None,
        slow=slow,
        missing=missing,
    )


def measure_width(process: ProcessContext, *, is_terminal: bool) -> int | None:
    """Return the columns for a report; None if it does not go to a terminal."""
    return max(LEAST_WIDTH, process.columns) if is_terminal else None


def render_report(facts: ReportFacts, look: DisplayMode, width: int | None, *, full: bool) -> str:
    """Return the text of the report: all of it if ``full``, else its most important lines."""
    if full:
        return build_report(facts, colour=look.colour, unicode=look.unicode, width=width)
    return build_short_report(facts, colour=look.colour, unicode=look.unicode, width=width)


def print_report(facts: ReportFacts, context: CommandContext, stream: TextIO, *, full: bool) -> None:
    """Print the report on this stream."""
    look = choose_text_style(context.process.environ, stream, context.settings)
    width = measure_width(context.process, is_terminal=stream.isatty())
    stream.write(render_report(facts, look, width, full=full))
