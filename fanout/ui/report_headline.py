"""Headline of a report: how the run ended, why, where, and at which step. It is the first and the last line. Pure."""

from __future__ import annotations

from fanout.text.paint import BOLD_RED, GREEN
from fanout.text.sanitize import to_single_line
from fanout.text.table import cut_text
from fanout.text.units import format_duration
from fanout.ui.report_rows import ReportFacts, choose_title_word, describe_left

_LEAST = 40  # columns of the cause, however narrow the terminal
#: Who stopped the run, by the reason of the outcome.
STOPPED_BY = {
    "by SIGINT": "by you",
    "by SIGTERM": "by SIGTERM from an unknown sender",
    "by SIGHUP": "because the terminal was closed (SIGHUP)",
    "time limit": "by the time limit",
}


def build_headline(facts: ReportFacts, longest: int | None = None) -> str:
    """Return ``FAILED after 15 s: rank 5 on gpu03 ran out of GPU memory (last step 14/60)`` in at most ``longest`` columns."""
    begin = f"{choose_title_word(facts.state, facts.outcome)} after {format_duration(facts.outcome.seconds)}: "
    cause = _describe_cause(facts)
    step = to_single_line(facts.summary.step) if facts.summary is not None else ""
    at = f" (last step {step})" if step and " step " not in cause else ""
    if longest is not None:
        cause = cut_text(cause, max(_LEAST, longest - len(begin) - len(at)))
    return f"{begin}{cause}{at}"


def _describe_cause(facts: ReportFacts) -> str:
    """Return the first cause, else why the run was stopped or what happened first."""
    outcome, summary = facts.outcome, facts.summary
    if outcome.before_attempt is not None:
        return f"{STOPPED_BY.get(outcome.stopped_why, outcome.stopped_why)} before attempt {outcome.before_attempt}"
    if summary is not None and summary.sentence:
        return to_single_line(summary.sentence)
    if outcome.hung:
        return "no rank made progress"
    if summary is None and outcome.stopped_why in STOPPED_BY and outcome.headline == f"stopped {outcome.stopped_why}":
        return STOPPED_BY[outcome.stopped_why]
    headline = to_single_line(outcome.headline).removeprefix("stopped: ").removeprefix("stopped ")
    return f"{headline}; the first cause is undetermined" if summary is not None else headline


def build_closing_line(facts: ReportFacts, longest: int | None = None) -> tuple[str, str]:
    """Return the last line of a report and its colour: the headline; after a stop also what was verified."""
    outcome, headline = facts.outcome, build_headline(facts, longest)
    has_failed = outcome.first is not None or facts.summary is not None
    if not outcome.stopped_why or (has_failed and outcome.before_attempt is None):
        return headline, BOLD_RED
    left, is_certain = describe_left(facts)
    return f"{headline}; {left}", GREEN if is_certain else BOLD_RED
