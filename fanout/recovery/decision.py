"""Decision: after each attempt, restart, replace a host, or end the run; with the reason.

``decide_next`` is pure. The launcher carries the decision out: it ends all hosts, waits for fences, checks the roster and
starts the next attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from fanout.model.frozen import frozen
from fanout.recovery.attempt import AttemptEnd, Fleet, RecoveryOptions
from fanout.recovery.budget import Budget, count_recent_starts, count_restarts, is_total_exceeded
from fanout.recovery.classify import classify_failure, failed_at_same_place
from fanout.recovery.failure_classes import REQUESTED_RESTART, FailureClass
from fanout.recovery.progress import select_since_progress, starts_from_scratch
from fanout.recovery.roster import Roster, choose_hosts
from fanout.text.units import count_noun

EndReason = Literal[
    "succeeded",
    "requested",
    "not-started",
    "off",
    "time-limit",
    "not-restartable",
    "before-first-step",
    "same-place",
    "repeated",
    "budget",
    "rate-limit",
    "no-hosts",
    "does-not-resume",
]
STARTED_SECONDS = 600.0  # an attempt without readable steps has passed its start after this time
ADVISED_RESTARTS = 3  # the value of --max-restarts that the report advises


@frozen
class Restart:
    """Start the next attempt on ``roster`` after ``wait_seconds``."""

    roster: Roster
    wait_seconds: float
    used: int  # restarts of the budget, with this one
    failure_class: str
    why: str


@frozen
class EndRun:
    """Start no further attempt. ``why`` is a sentence for the report, "" after a success."""

    reason: EndReason
    why: str = ""
    failure_class: str = ""


Decision = Restart | EndRun


def decide_next(options: RecoveryOptions, history: Sequence[AttemptEnd], fleet: Fleet) -> Decision:
    """Return what follows the last attempt of ``history``, which holds all attempts in order."""
    last = history[-1]
    if last.succeeded:
        return EndRun(reason="succeeded")
    if last.requested:
        return EndRun(reason="requested", why=last.requested)
    failure = classify_failure(options, last)
    removed = _hosts_to_remove(options, history, failure)
    budget = count_restarts(options, history)
    end = _reason_to_end(options, history, failure, budget, removed)
    if end is not None:
        return end
    keep = _removable_only_for_spare(last, failure)
    size = len(history[0].hosts)
    roster = choose_hosts(last.hosts, removed, fleet, size=size, min_hosts=options.min_hosts, keep=keep)
    if roster is None:
        names = ", ".join(name for name in last.hosts if name in removed)
        return EndRun(reason="no-hosts", why=f"no spare host is left for {names}", failure_class=failure.name)
    return Restart(
        roster=roster,
        wait_seconds=budget.compute_wait(failure) if not roster.replaced else 0.0,
        used=budget.used,
        failure_class=failure.name,
        why=failure.why,
    )


def advise_restarts(options: RecoveryOptions, history: Sequence[AttemptEnd], fleet: Fleet) -> Decision:
    """Return what ``--max-restarts 3`` would have done after a run without restarts."""
    return decide_next(replace(options, max_restarts=ADVISED_RESTARTS, only_hangs=False), history, fleet)


def _reason_to_end(
    options: RecoveryOptions,
    history: Sequence[AttemptEnd],
    failure: FailureClass,
    budget: Budget,
    removed: frozenset[str],
) -> EndRun | None:
    last = history[-1]
    moves_away = last.host is not None and last.host in removed  # the cause stays behind
    if options.max_restarts <= 0 or (options.only_hangs and failure.name != "hang"):
        return EndRun(reason="off", failure_class=failure.name)
    if starts_from_scratch(history) and not options.allow_from_scratch:
        return _end("does-not-resume", "the task does not resume: it began at its first step again", failure)
    if failure.answer == "stop" and not moves_away:
        return _end("not-restartable", failure.why, failure)
    if failure.needs_progress and not _has_started(last) and not moves_away:
        return _end("before-first-step", "it failed before its first step, and would fail there again", failure)
    if failure.stops_at_same_place and len(history) > 1 and failed_at_same_place(last, history[-2]):
        step = f" after step {last.steps.last}" if last.steps else ""
        return _end("same-place", f"the same error occurred twice in the same place{step}", failure)
    return _reason_by_limits(options, history, failure, budget, moves_away=moves_away)


def _reason_by_limits(
    options: RecoveryOptions,
    history: Sequence[AttemptEnd],
    failure: FailureClass,
    budget: Budget,
    *,
    moves_away: bool,
) -> EndRun | None:
    recent = count_recent_starts(options.rate, history) if options.rate is not None else 0
    if options.rate is not None and recent >= options.rate.starts:
        return _end("rate-limit", f"{recent} starts are too many (--restart-rate: {options.rate})", failure)
    if is_total_exceeded(options, history):
        return _end("rate-limit", f"{len(history)} starts are too many (limit: 10 times --max-restarts)", failure)
    if failure is REQUESTED_RESTART:
        return None
    if failure.limit is not None and budget.same_class > failure.limit and not moves_away:
        why = f"it failed {budget.same_class} times in this way without progress{_describe_checkpoint(history[-1])}"
        return _end("repeated", why, failure)
    if budget.used > options.max_restarts:
        return _end(
            "budget",
            f"{count_noun(options.max_restarts, 'restart')} in a row without progress (--max-restarts)",
            failure,
        )
    return None


def _describe_checkpoint(last: AttemptEnd) -> str:
    before = f"; the checkpoint before it is {last.predecessor}" if last.predecessor else ""
    return f": {last.checkpoint} is unreadable{before}" if last.checkpoint else ""


def _end(reason: EndReason, why: str, failure: FailureClass) -> EndRun:
    return EndRun(reason=reason, why=why, failure_class=failure.name)


def _has_started(attempt: AttemptEnd) -> bool:
    return attempt.steps is not None or attempt.ended_at - attempt.started_at >= STARTED_SECONDS


def _hosts_to_remove(options: RecoveryOptions, history: Sequence[AttemptEnd], failure: FailureClass) -> frozenset[str]:
    """Return the hosts that cannot take part again, or that caused the failure with enough certainty."""
    last = history[-1]
    removed = {*last.lost, *last.unclean}
    host = last.host
    if host is None or host not in last.hosts:
        return frozenset(removed)
    sure = last.confidence == "high" or (last.confidence == "medium" and failure.name in ("host-lost", "host-cut-off"))
    compared = history if failure.repeats_ever else select_since_progress(history)
    earlier = [
        each for each in compared[:-1] if each.host == host and classify_failure(options, each).name == failure.name
    ]
    single = failure.replaces_single and len(last.accused or (host,)) == 1 and len(last.hosts) > 1
    repeated = bool(earlier) and (failure.replaces_repeat or failure.answer == "replace")
    if (failure.answer == "replace" and sure) or repeated or (single and last.confidence in ("high", "medium")):
        removed.add(host)
    return frozenset(removed)


def _removable_only_for_spare(last: AttemptEnd, failure: FailureClass) -> frozenset[str]:
    """Return the hosts that may stay without a spare: they answer, are clean, and their class allows it."""
    gone = {*last.lost, *last.unclean}
    stays = failure.in_place_if_clean or failure.replaces_repeat
    return frozenset(name for name in last.hosts if name not in gone and stays)
