"""One attempt of a run on the HTML page: it gets the events of the record, once each, and returns the data of the page."""

from __future__ import annotations

import time

from fanout.diagnose import verdict_text
from fanout.diagnose.verdict import Verdict
from fanout.logs.line_filters import parse_display_filters
from fanout.model.events import Event, Tick
from fanout.model.outcome import outcome_of
from fanout.model.state import RunState, apply_event
from fanout.record import writer_lock
from fanout.record.recorded_attempts import read_pending_restart
from fanout.record.run_reader import RunReader, apply_recorded_event
from fanout.run import diagnosis
from fanout.run.command_context import CommandContext
from fanout.run.recorded_report import RecordedReport
from fanout.ui.html.page import to_script_json
from fanout.ui.html.page_builder import PageBuilder
from fanout.ui.html.page_head import PageVerdict, RecordStage
from fanout.ui.run_report import build_report


class PageAttempt:
    """Attempt on the page. No event is read twice, so a long run costs no more per rewrite than a short one."""

    def __init__(self, path: str, context: CommandContext) -> None:
        """Open the record of an attempt. Raises UsageError."""
        self.recorded = RunReader(path)
        metric = parse_display_filters(context.settings, metric=self.recorded.metric).metric
        heading = self.recorded.heading
        self._page = PageBuilder(heading, self.recorded.began_at, metric, directory=path)
        self._report = RecordedReport(self.recorded, context)
        self._state = RunState.initial(heading.hosts, at=self.recorded.began_at)

    def add_event(self, event: Event) -> None:
        before, self._state = self._state, apply_recorded_event(self._state, event)
        if self._state is not before:
            self._report(event, self._state)
            self._page(event, self._state)

    def read_all_events(self) -> None:
        """Read the whole record."""
        for event in self.recorded.iter_events():
            self.add_event(event)

    def find_stage(self) -> RecordStage:
        """Return whether the record has its end. An attempt before a restart is active until the next one begins."""
        path = self.recorded.path
        if self.recorded.has_outcome:
            return RecordStage.ACTIVE if read_pending_restart(path) is not None else RecordStage.ENDED
        return RecordStage.ACTIVE if writer_lock.read_owner(path) is not None else RecordStage.ABANDONED

    def build_active_json(self) -> str:
        """Return the data of an attempt that is still active, as JSON for the page."""
        state = apply_event(self._state, Tick(at=max(self._state.now, time.time())))
        verdict, lines = self._report.preview_lines(state)
        report, shown = "".join(f"{line}\n" for line in lines), _describe_verdict(verdict)
        return to_script_json(self._page.build_data(outcome_of(state), report, shown, RecordStage.ACTIVE, state))

    def build_final_json(self, stage: RecordStage) -> str:
        """Return the data of an attempt after its last event, as JSON for the page."""
        self._page.add_rest()
        rebuilt = self._report.build_report_data(self._state)
        report = build_report(rebuilt.facts)
        verdict = _describe_verdict(rebuilt.verdict)
        return to_script_json(self._page.build_data(rebuilt.outcome, report, verdict, stage, self._state))


def _describe_verdict(verdict: Verdict | None) -> PageVerdict:
    """Return what the page shows of a verdict. Without a cause, the page shows how the run ended."""
    if verdict is None or verdict.cause is None:
        return PageVerdict()
    cause = verdict.cause
    label, sentence, confidence = verdict_text.choose_label(verdict), verdict.sentence, verdict.confidence
    if verdict.also:  # no host is blamed if the evidence cannot separate several
        return PageVerdict(label=label, sentence=sentence, confidence=confidence)
    host, rank = diagnosis.find_blamed_rank(verdict)
    return PageVerdict(label=label, sentence=sentence, confidence=confidence, host=host or None, rank=rank, at=cause.at)
