"""Head of the HTML page: the word of the badge, the verdict as headline, and the first cause with its place in time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Literal

from fanout.model import hang_detection
from fanout.model.exit_status import ExitStatus
from fanout.model.frozen import frozen
from fanout.model.outcome import RunOutcome
from fanout.model.planned_stop import find_sent_save
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.text.sanitize import to_single_line
from fanout.ui.html.timeline import StreamTimeline
from fanout.ui.report_headline import STOPPED_BY
from fanout.ui.run_condition import ALARMS, WARNINGS, Observations, RunCondition, find_run_status

Tone = Literal["good", "bad", "open", "plain"]


class RecordStage(Enum):
    """Stage of a record: whether it has its end, is still written, or lost its writer."""

    ENDED = "ended"
    ACTIVE = "active"
    ABANDONED = "abandoned"


@frozen
class PageVerdict:
    """The diagnosis, as the page shows it. ``host`` and ``rank`` died or hung first; None if that is not known.

    ``sentence`` is the first cause in one sentence, "" if there is none. ``label`` is how certain it is: first cause,
    likely cause, or candidate. ``at`` is a time of the launcher's clock.
    """

    label: str = ""
    sentence: str = ""
    confidence: str = ""
    host: str | None = None
    rank: int | None = None
    at: float | None = None


@frozen
class PageHead:
    """The head of the page: badge, its colour, and headline."""

    badge: str
    tone: Tone
    headline: str


def summarize_page(
    heading: RunInfo,
    state: RunState,
    outcome: RunOutcome,
    verdict: PageVerdict,
    stage: RecordStage,
    streams: Sequence[StreamTimeline],
) -> PageHead:
    """Return the head of the page for a run at ``state.now``."""
    if stage is RecordStage.ENDED:
        return _summarize_end(state, outcome, verdict)
    reached = describe_steps(streams)
    if stage is RecordStage.ABANDONED:
        return PageHead(
            badge="NO END",
            tone="open",
            headline=_join_facts("The record has no end, because its launcher died", reached),
        )
    hung: dict[str, str] | None = {} if hang_detection.is_hung(state) else None
    status = find_run_status(heading, state, Observations(has_steps=bool(reached), hung=hung))
    tone: Tone = "good" if status.condition is RunCondition.RUNNING else "plain"
    if status.condition in WARNINGS:
        tone = "open"
    elif status.condition in ALARMS:
        tone = "bad"
    return PageHead(
        badge=str(status).upper() if not status.detail else str(status),
        tone=tone,
        headline=_describe_now(verdict, reached, heading),
    )


def describe_steps(streams: Sequence[StreamTimeline]) -> str:
    """Return the newest step, or the range of the newest steps of all ranks; "" without steps."""
    ranks = [stream for stream in streams if stream.rank is not None] or streams
    newest = [int(point[1]) for stream in ranks if (point := stream.steps.newest) and point[1] is not None]
    if not newest:
        return ""
    low, high = min(newest), max(newest)
    return f"step {high}" if low == high else f"steps {low}–{high}"


def describe_cause(
    verdict: PageVerdict, began_at: float, streams: Sequence[StreamTimeline], hosts: Sequence[str]
) -> dict[str, Any] | None:
    """Return the first cause as JSON for the timeline; None if the diagnosis names no place."""
    if not verdict.sentence or (verdict.host is None and verdict.at is None):
        return None
    host = hosts.index(verdict.host) if verdict.host in hosts else None
    own = [stream for stream in streams if stream.host == host and stream.rank == verdict.rank]
    step = own[0].steps.newest if own and verdict.rank is not None else None
    return {
        "label": verdict.label,
        "text": to_single_line(verdict.sentence),
        "confidence": verdict.confidence,
        "host": host,
        "rank": verdict.rank,
        "at": round(max(0.0, verdict.at - began_at), 3) if verdict.at is not None else None,
        "step": int(step[1]) if step is not None and step[1] is not None else None,
    }


def _summarize_end(state: RunState, outcome: RunOutcome, verdict: PageVerdict) -> PageHead:
    headline = _describe_verdict(verdict) or to_single_line(_describe_stop(outcome))
    if outcome.is_success:
        return PageHead(badge="SUCCEEDED", tone="good", headline=_capitalize(outcome.headline))
    if outcome.exit_code == ExitStatus.REFUSED and all(host.started_at is None for host in state.all_hosts):
        return PageHead(badge="NOT LAUNCHED", tone="bad", headline=_capitalize(headline))
    by_whom = " BY YOU" if outcome.exit_code == ExitStatus.INTERRUPTED else ""
    if outcome.hung:
        return PageHead(badge=f"HUNG, STOPPED{by_whom}", tone="bad", headline=_capitalize(headline))
    if outcome.origin == "user":
        return PageHead(badge=f"STOPPED{by_whom}", tone="plain", headline=_capitalize(headline))
    saved = find_sent_save(state) is not None or outcome.exit_code == ExitStatus.TIME_LIMIT
    if outcome.first is None:
        return PageHead(badge="STOPPED", tone="plain" if saved else "open", headline=_capitalize(headline))
    return PageHead(badge="FAILED", tone="bad", headline=_capitalize(headline))


def _describe_verdict(verdict: PageVerdict) -> str:
    """Return the first cause, with a word if it is only likely; "" without one."""
    certain = "likely: " if verdict.label == "likely cause" else ""
    return certain + to_single_line(verdict.sentence) if verdict.sentence else ""


def _describe_stop(outcome: RunOutcome) -> str:
    """Return the headline of the outcome; signals of the user are words."""
    words = STOPPED_BY.get(outcome.stopped_why, outcome.stopped_why)
    return outcome.headline.replace(f"stopped {outcome.stopped_why}", f"stopped {words}", 1)


def _describe_now(verdict: PageVerdict, reached: str, heading: RunInfo) -> str:
    if verdict.sentence:
        return _capitalize(_describe_verdict(verdict))
    return _join_facts(to_single_line(heading.title), reached)


def _join_facts(*facts: str) -> str:
    return " · ".join(fact for fact in facts if fact)


def _capitalize(text: str) -> str:
    """Return the text with a capital first letter, unless its first word is a name such as ``gpu01:``."""
    first = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if first.isalpha() and first.islower() else text
