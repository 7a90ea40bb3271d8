"""Report of a recorded run: its events give the state, the outcome, the diagnosis and the text, as at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fanout.diagnose.verdict import Verdict
from fanout.logs.tail import LogTails
from fanout.model.events import Event
from fanout.model.exit_status import ExitStatus
from fanout.model.frozen import frozen
from fanout.model.outcome import ORIGINS, RunOutcome, outcome_of
from fanout.model.state import RunState
from fanout.record.run_reader import RunReader
from fanout.record.run_writer import RecordGap
from fanout.run import closing_report, diagnosis, network_retest
from fanout.run.command_context import CommandContext
from fanout.run.slow_ranks import SlowRankReporter
from fanout.text.sanitize import sanitize_line
from fanout.ui.report_rows import ReportFacts

EventCallback = Callable[[Event, RunState], Any]


@frozen
class ReportData:
    """Result of a recorded run: the facts of its report, the verdict, and the steps."""

    facts: ReportFacts
    verdict: Verdict | None
    steps: Sequence[Mapping[str, Any]]  # seconds per step of each rank

    @property
    def outcome(self) -> RunOutcome:
        return self.facts.outcome


class RecordedReport:
    """Subscriber that collects what the report of a recorded run needs. It must get every event."""

    broken = False

    def __init__(self, recorded: RunReader, context: CommandContext) -> None:
        """Create it for a record, with the recorded facts and the user's signatures. Raises UsageError."""
        self._recorded = recorded
        self._tails, self._pace = LogTails(), SlowRankReporter()
        self._collector = diagnosis.build_collector(recorded.heading, diagnosis.load_signatures(context), recorded=True)
        diagnosis.add_recorded_facts(self._collector, recorded.path)

    def __call__(self, event: Event, state: RunState) -> None:
        for receiver in (self._collector, self._tails, self._pace):
            receiver(event, state)

    def preview_lines(self, state: RunState) -> tuple[Verdict | None, Sequence[str]]:
        """Return the verdict on a run that has not ended, and its lines with those about slow ranks."""
        verdict = diagnosis.diagnose_active_run(self._collector, state)
        lines = diagnosis.render_verdict(verdict) or ("nothing has failed so far, and no hang was found",)
        slow = (f"slow: {each}" for each in self._pace.list_slow_ranks())
        return verdict, [sanitize_line(line, colour=False) for line in (*lines, *slow)]

    def build_report_data(self, state: RunState) -> ReportData:
        """Return the report for the state after the last event."""
        outcome = outcome_of(state, refused=_read_refusal(self._recorded))
        outcome, verdict = diagnosis.diagnose_run(self._collector, state, outcome)
        if verdict is not None and network_retest.is_network_suspected(verdict):
            verdict = network_retest.add_recorded_retest(verdict, self._recorded.path)
        result = self._recorded.read_result()
        facts = closing_report.build_facts(
            self._recorded.heading,
            state,
            _apply_recorded_end(outcome, result),
            verdict,
            self._tails,
            slow=self._pace.list_slow_ranks(),
            missing=[str(RecordGap(**gap)) for gap in (result or {}).get("problems", ())],
        )
        return ReportData(facts=facts, verdict=verdict, steps=self._pace.list_step_times())


def rebuild_report(recorded: RunReader, context: CommandContext, *subscribers: EventCallback) -> ReportData:
    """Read the whole record, fold its events, and diagnose the run; ``subscribers`` get every event too."""
    report = RecordedReport(recorded, context)
    state = RunState.initial(recorded.heading.hosts, at=recorded.began_at)
    receivers: tuple[EventCallback, ...] = (report, *subscribers)
    for event, state in recorded.iter_states():
        for receiver in receivers:
            receiver(event, state)
    return report.build_report_data(state)


def _apply_recorded_end(outcome: RunOutcome, result: Mapping[str, Any] | None) -> RunOutcome:
    """Return the outcome with the recorded end if that differs: no event has a gap of the log or a stop between attempts."""
    origin = (result or {}).get("origin")
    if result is None or result["exit_code"] in (outcome.exit_code, ExitStatus.SUCCESS) or origin not in ORIGINS:
        return outcome
    headline, why = result["headline"], result.get("stopped_why", "")
    return replace(outcome, exit_code=result["exit_code"], origin=origin, headline=headline, stopped_why=why)


def _read_refusal(recorded: RunReader) -> str:
    """Return why fanout did not launch the run, or "". No event has this reason, only the recorded result."""
    result = recorded.read_result()
    return (
        str(result["headline"])
        if result and result["exit_code"] == ExitStatus.REFUSED and result["first"] is None
        else ""
    )
