"""``fanout report``: make the report of a recorded run again, as text, JSON or an HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TextIO

from fanout.diagnose.verdict import to_dict
from fanout.model.attempt_record import AttemptRecord
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.request import Request
from fanout.record import writer_lock
from fanout.record.code_record import read_code_record
from fanout.record.index import list_attempt_paths, split_attempt_path
from fanout.record.recorded_attempts import find_reported_attempt, read_attempt_records
from fanout.record.run_reader import RunReader
from fanout.run import closing_report
from fanout.run.command_context import CommandContext, load_command_context
from fanout.run.process_context import ProcessContext
from fanout.run.recorded_report import ReportData, rebuild_report
from fanout.text.sanitize import sanitize_line
from fanout.ui.attempt_table import render_attempts


def run_report(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0 for any outcome of the run. Raises UsageError."""
    context = load_command_context(request, process)
    if request.given["html"]:
        return _write_page(context)
    if request.given["follow"]:
        raise UsageError("--follow rewrites the page of an active run", hint="fanout report --html run.html --follow")
    paths = context.find_attempts()
    recorded = RunReader(find_reported_attempt(paths))
    _refuse_active_run(RunReader(paths[-1]))
    rebuilt = rebuild_report(recorded, context)
    attempts = read_whole_run(paths)
    code = read_code_record(split_attempt_path(paths[0])[0])
    if request.given["as_json"]:
        verdict = rebuilt.verdict
        answer = (
            to_dict(verdict) if verdict is not None else {"v": 1, "verdict": rebuilt.outcome.headline, "cause": None}
        )
        process.stdout.write(
            json.dumps(
                {"run": recorded.heading.run_id, **answer, "slow": rebuilt.facts.slow, "steps": rebuilt.steps}
                | {"attempts": [record.to_dict() for record in attempts]}
                | ({"code": asdict(code)} if code is not None else {}),
                indent=2,
            )
            + "\n"
        )
        return ExitStatus.SUCCESS
    warn_unless_ended(recorded, process)
    if code is not None:
        process.stdout.write(f"code: {sanitize_line(code.describe(), colour=False)}\n")
    print_recorded_report(rebuilt, attempts, context, process.stdout)
    return ExitStatus.SUCCESS


def print_recorded_report(
    rebuilt: ReportData, attempts: Sequence[AttemptRecord], context: CommandContext, stream: TextIO
) -> None:
    """Print the report on this stream: all of it with --full."""
    width = closing_report.measure_width(context.process, is_terminal=stream.isatty())
    table = render_attempts(attempts, None if width is None else max(80, width))
    facts = replace(rebuilt.facts, attempts=table)
    closing_report.print_report(facts, context, stream, full=context.request.given["full"])


def _refuse_active_run(recorded: RunReader) -> None:
    """Raise UsageError for a run that a launcher or a guardian still writes: it has no outcome, so none is reported."""
    owner = writer_lock.read_owner(recorded.path)
    if owner is not None and not recorded.has_outcome:
        run = recorded.heading.run_id
        raise UsageError(
            f"run {run} is active (pid {owner.pid} of {owner.user} on {owner.machine}): it has no outcome to report yet",
            hint=f"fanout attach {run}   # shows it; the report follows at its end",
        )


def warn_unless_ended(recorded: RunReader, process: ProcessContext) -> None:
    if recorded.damage_message:
        process.print_message(recorded.damage_message)
    if not recorded.has_outcome:
        process.print_message(
            f"run {recorded.heading.run_id}: the record has no end: the run is active, or its launcher was killed"
        )


def _write_page(context: CommandContext) -> int:
    """Write the HTML page, once or until the run ends; return the exit status. Raises UsageError or LauncherError."""
    from fanout.run.page_file import PageFile
    from fanout.run.page_writer import follow_page, write_page

    given = context.request.given
    file = PageFile(given["html"], context.process.cwd, is_rewritten=given["follow"])
    if not given["follow"]:
        return write_page(file, context.find_attempts(), context)
    return follow_page(file, context.find_followed_attempts(), context)


def read_whole_run(paths: Sequence[str]) -> list[AttemptRecord]:
    """Return the records of a run's attempts; none if these are not all attempts of a run with restarts."""
    run, number = split_attempt_path(paths[0])
    is_whole = number == 0 and len(paths) == len(list_attempt_paths(run))
    return read_attempt_records(paths[0]) if is_whole else []
