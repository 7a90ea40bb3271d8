"""``fanout report``: make the report of a recorded run again, as text, JSON or an HTML page."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fanout.diagnose.verdict import Verdict, to_dict
from fanout.logs.line_filters import parse_display_filters
from fanout.logs.tail import LogTail, LogTails
from fanout.model.attempt_record import AttemptRecord
from fanout.model.errors import UsageError
from fanout.model.events import Event
from fanout.model.exit_status import ExitStatus
from fanout.model.outcome import RunOutcome, outcome_of
from fanout.model.request import Request
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.record import writer_lock
from fanout.record.index import split_attempt_path
from fanout.record.recorded_attempts import find_reported_attempt, read_attempt_records
from fanout.record.run_reader import RunReader
from fanout.run import diagnosis, network_retest
from fanout.run.command_context import CommandContext, load_command_context
from fanout.run.process_context import ProcessContext
from fanout.run.slow_ranks import SlowRankReporter
from fanout.text.units import format_size
from fanout.ui.attempt_table import render_attempts
from fanout.ui.display_mode import choose_text_style
from fanout.ui.run_report import build_report

EventCallback = Callable[[Event, RunState], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Result of a recorded run: state, outcome, verdict, and the data of the report."""

    heading: RunInfo
    state: RunState
    outcome: RunOutcome
    verdict: Verdict | None
    words: Mapping[str, LogTail]
    slow: tuple[str, ...]
    steps: Sequence[Mapping[str, Any]]  # seconds per step of each rank

    def render(self, colour: bool, unicode: bool) -> str:
        """Return the text of the report, as at the end of the run."""
        return build_report(
            self.heading,
            self.state,
            self.outcome,
            self.words,
            diagnosis=diagnosis.render_verdict(self.verdict),
            blamed=diagnosis.find_blamed_rank(self.verdict),
            slow=self.slow,
            colour=colour,
            unicode=unicode,
        )


def run_report(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0 for any outcome of the run. Raises UsageError."""
    context = load_command_context(request, process)
    paths = context.find_attempts()
    if request.given["html"]:
        return _write_page(request.given["html"], paths, context)
    recorded = RunReader(find_reported_attempt(paths))
    _refuse_active_run(RunReader(paths[-1]))
    rebuilt = rebuild_report(recorded, context)
    attempts = _read_whole_run(paths)
    if request.given["as_json"]:
        verdict = rebuilt.verdict
        answer = (
            to_dict(verdict) if verdict is not None else {"v": 1, "verdict": rebuilt.outcome.headline, "cause": None}
        )
        process.stdout.write(
            json.dumps(
                {"run": recorded.heading.run_id, **answer, "slow": rebuilt.slow, "steps": rebuilt.steps}
                | {"attempts": [record.to_dict() for record in attempts]},
                indent=2,
            )
            + "\n"
        )
        return ExitStatus.SUCCESS
    warn_unless_ended(recorded, process)
    look = choose_text_style(process.environ, process.stdout, context.settings)
    process.stdout.write(rebuilt.render(look.colour, look.unicode))
    width = max(80, process.columns) if process.stdout.isatty() else None
    process.stdout.write("".join(f"{line}\n" for line in render_attempts(attempts, width)))
    return ExitStatus.SUCCESS


def _refuse_active_run(recorded: RunReader) -> None:
    """Raise UsageError for a run that a launcher or a guardian still writes: it has no outcome, so none is reported."""
    owner = writer_lock.read_owner(recorded.path)
    if owner is not None and not recorded.has_outcome:
        run = recorded.heading.run_id
        raise UsageError(
            f"run {run} is active (pid {owner.pid} of {owner.user} on {owner.machine}): it has no outcome to report yet",
            hint=f"fanout attach {run}   # shows it; the report follows at its end",
        )


def rebuild_report(recorded: RunReader, context: CommandContext, *subscribers: EventCallback) -> ReportData:
    """Read the whole record, fold its events, and diagnose the run; ``subscribers`` get every event too."""
    tails, pace = LogTails(), SlowRankReporter()
    collector = diagnosis.build_collector(recorded.heading, diagnosis.load_signatures(context), recorded=True)
    diagnosis.add_recorded_facts(collector, recorded.path)
    receivers: tuple[EventCallback, ...] = (collector, tails, pace, *subscribers)
    state = RunState.initial(recorded.heading.hosts, at=recorded.began_at)
    for event, state in recorded.iter_states():
        for receiver in receivers:
            receiver(event, state)
    outcome, verdict = diagnosis.diagnose_run(collector, state, outcome_of(state, refused=_read_refusal(recorded)))
    if verdict is not None and network_retest.is_network_suspected(verdict):
        verdict = network_retest.add_recorded_retest(verdict, recorded.path)
    last = diagnosis.select_last_lines(tails, outcome, verdict)
    return ReportData(
        heading=recorded.heading,
        state=state,
        outcome=outcome,
        verdict=verdict,
        words=last,
        slow=pace.list_slow_ranks(),
        steps=pace.list_step_times(),
    )


def warn_unless_ended(recorded: RunReader, process: ProcessContext) -> None:
    if recorded.damage_message:
        process.print_message(recorded.damage_message)
    if not recorded.has_outcome:
        process.print_message(
            f"run {recorded.heading.run_id}: the record has no end: the run is active, or its launcher was killed"
        )


def _write_page(path: str, paths: Sequence[str], context: CommandContext) -> int:
    """Write the HTML page, one file that needs no network, with all attempts; return 0. Raises UsageError."""
    from fanout.ui.html.page import fill_template

    place = os.path.join(context.process.cwd, os.path.expanduser(path))
    if not os.path.isdir(os.path.dirname(place)):
        raise UsageError(f"--html {path}: no such directory")
    if not _may_be_overwritten(place):
        raise UsageError(f"--html {path}: this file exists and is not an HTML page", hint="name another file")
    lines = render_attempts(_read_whole_run(paths))
    reported = find_reported_attempt(paths)
    data = _build_page_data(reported, context, lines)
    others = [_build_page_data(each, context) for each in paths if each != reported]
    text = fill_template(data | {"attempts": others})
    try:
        with open(place, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"--html {path}: {error.strerror}") from None
    context.process.print_message(f"wrote {path} ({format_size(len(text))}): open it in a browser")
    return ExitStatus.SUCCESS


def _build_page_data(path: str, context: CommandContext, lines: Sequence[str] = ()) -> dict[str, Any]:
    """Return the data of one attempt for the page. ``lines`` are added to its report."""
    from fanout.ui.html.page import PageBuilder

    recorded = RunReader(path)
    metric = parse_display_filters(context.settings, metric=recorded.metric).metric
    page = PageBuilder(recorded.heading, recorded.began_at, metric)
    rebuilt = rebuild_report(recorded, context, page)
    report = rebuilt.render(colour=False, unicode=True) + "".join(f"{line}\n" for line in lines)
    return page.build_page_data(rebuilt.outcome, report, ended=recorded.has_outcome, directory=path)


def _read_whole_run(paths: Sequence[str]) -> list[AttemptRecord]:
    """Return the records of a run's attempts; none if these are not all attempts of a run with restarts."""
    is_whole = split_attempt_path(paths[0])[1] == 0 and len(paths) > 1
    return read_attempt_records(paths[0]) if is_whole else []


def _may_be_overwritten(path: str) -> bool:
    """Return whether the file is absent, empty, not a regular file (/dev/stdout), or an HTML page."""
    if not os.path.isfile(path):
        return True
    try:
        with open(path, "rb") as file:
            start = file.read(100)
    except OSError:
        return True  # the write then reports the same error
    return not start.strip() or start.lstrip().lower().startswith(b"<!doctype html")


def _read_refusal(recorded: RunReader) -> str:
    """Return why fanout did not launch the run, or "". No event has this reason, only the recorded result."""
    result = recorded.read_result()
    return (
        str(result["headline"])
        if result and result["exit_code"] == ExitStatus.REFUSED and result["first"] is None
        else ""
    )
