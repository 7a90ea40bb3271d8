"""``fanout attach``: return to a run, on its own machine or on another one, and follow it to its end.

On the machine that launched the run, attach follows the record. If the launcher died, a new process replaces it first.
On another machine, attach asks the hosts for the run and for its log from the first byte.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from fanout.commands import report
from fanout.diagnose.collector import EvidenceCollector
from fanout.logs.line_filters import parse_display_filters
from fanout.logs.tail import LogTails
from fanout.model.attempt_plan import split_attempt_id
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.outcome import with_unverified_hosts
from fanout.model.request import Request
from fanout.record import follow, recorded_attempts, run_handle, writer_lock
from fanout.record.index import list_attempt_paths, read_run_handle, read_run_info, split_attempt_path
from fanout.record.run_reader import RunReader
from fanout.run import closing_report, detach, diagnosis, observe, takeover
from fanout.run.attached_view import AttachedView
from fanout.run.command_context import CommandContext, load_command_context
from fanout.run.guardian import Guardian
from fanout.run.live_stacks import CommandStacks
from fanout.run.notifications import describe_cause, resume_notifications
from fanout.run.process_context import ProcessContext
from fanout.run.recorded_report import rebuild_report
from fanout.run.run_context import select_hosts
from fanout.run.save_watch import SaveRequestWatch
from fanout.run.slow_ranks import SlowRankReporter
from fanout.run.step_progress import StepProgress
from fanout.run.stop_signals import filter_handled_signals
from fanout.ui.run_report import build_report


def run_attach(request: Request, process: ProcessContext) -> int:
    """Run the command; return the exit status of the run."""
    request = _read_run_as_hosts(request)
    context = load_command_context(request, process)
    if request.hosts and not request.given["run"]:
        return observe.attach_to_hosts(select_hosts(context))
    try:
        path = context.find_active_run()
    except UsageError:
        if not context.can_ask_hosts:
            raise
        return observe.attach_to_hosts(select_hosts(context))
    if writer_lock.read_owner(path) is None:
        path = recorded_attempts.find_launched_attempt(path)
    recorded = RunReader(path)
    if follow.has_no_writer(recorded) and not recorded.has_outcome:
        status = _replace_launcher(path, context)
        if status is not None:
            return status
    return _follow_record(recorded, context)


def _read_run_as_hosts(request: Request) -> Request:
    """Return the request with RUN as HOSTS if RUN is a file: ``attach hosts.txt`` means the hosts."""
    run = request.given["run"]
    if run and not request.hosts and os.path.isfile(run):
        return dataclasses.replace(request, hosts=run, given={**request.given, "run": ""})
    return request


def _follow_record(recorded: RunReader, context: CommandContext) -> int:
    process = context.process
    filters = parse_display_filters(context.settings, metric=recorded.metric)
    collector = _build_collector(recorded, context)
    heading = read_run_info(recorded.path, recorded.heading)
    stacks = CommandStacks(split_attempt_id(heading.run_id)[0], process.cwd)
    shown = AttachedView(heading, context, filters, collector, stacks, muted=True)
    view, detach_request = shown.view, shown.detach_request
    try:
        while True:
            reporters = shown.reporters
            result = follow.follow_record(
                recorded,
                view,
                lambda: detach_request.requested,
                learners=[collector],
                reporters=[reporters.hangs, reporters.pace],
            )
            following = recorded_attempts.find_next_attempt(recorded.path)
            if following is None or detach_request.requested or view.broken:
                break
            recorded = RunReader(following)
            collector = _build_collector(recorded, context)
            shown.begin_attempt(read_run_info(recorded.path, recorded.heading), collector)
    except KeyboardInterrupt:
        detach_request.acknowledged = True
    finally:
        stacks.close()
    view.close()
    if detach_request.requested or detach_request.acknowledged:
        process.print_message(f"left; the run goes on:  fanout attach {recorded.heading.run_id}")
        return ExitStatus.SUCCESS if detach_request.requested else ExitStatus.INTERRUPTED
    if view.broken:
        return ExitStatus.BROKEN_PIPE
    if recorded.damage_message:
        process.print_message(recorded.damage_message)
    return _print_result(recorded, result, context)


def _build_collector(recorded: RunReader, context: CommandContext) -> EvidenceCollector:
    """Return the collector for a recorded attempt, with the facts of its plan."""
    collector = diagnosis.build_collector(recorded.heading, diagnosis.load_signatures(context), recorded=True)
    diagnosis.add_recorded_facts(collector, recorded.path)
    return collector


def _print_result(recorded: RunReader, result: Mapping[str, Any] | None, context: CommandContext) -> int:
    """Print the report of the record; return the exit status of the run."""
    process, run = context.process, recorded.heading.run_id
    if result is None:
        process.print_message(f"run {run}: the record has no end: the launcher died")
        process.stderr.write(f"        try:  fanout attach {run}   # resumes it; or:  fanout stop {run}\n")
        return ExitStatus.UNREACHABLE
    attempts = report.read_whole_run(list_attempt_paths(split_attempt_path(recorded.path)[0]))
    report.print_recorded_report(rebuild_report(recorded, context), attempts, context, process.stderr)
    return int(result["exit_code"])


def _replace_launcher(path: str, context: CommandContext) -> int | None:
    """Start a process that replaces the launcher, without a terminal. Return None if it runs, else an exit status."""
    order = read_run_handle(path)
    context.process.print_message(f"run {order.run_id}: the launcher died: starting a new one")
    taken: list[int] = []

    def work(parent_pipe: detach.ParentPipe) -> int:
        taken.append(os.getpid())
        return _run_replacement(order, context, parent_pipe)

    status = detach.run_in_background(context.process, work)
    return status if taken or status else None


def _run_replacement(order: run_handle.RunHandle, context: CommandContext, parent_pipe: detach.ParentPipe) -> int:
    """Replace the launcher from now on, in a process of its own; return the exit status."""
    process = context.process
    ends = (
        signal.SIGTERM if filter_handled_signals([signal.SIGTERM]) else signal.SIGKILL
    )  # after SIGKILL the guardian stops the run
    ours = writer_lock.LockOwner(
        pid=os.getpid(), user=process.user, machine=process.machine, since=time.time(), detached=True, signal=ends
    )
    hold = writer_lock.acquire_lock(order.directory, ours)
    if hold is None or not parent_pipe.release_parent():
        return ExitStatus.SUCCESS  # another process was faster, or the command that started this one is gone
    guardian = Guardian()
    detach.redirect_output(order.directory)
    guardian.watch_run(order.to_json())
    recorded = RunReader(order.directory)
    tails, pace, steps = LogTails(), SlowRankReporter(muted=True), StepProgress()
    notifications, problems = resume_notifications(order, process.environ, steps)
    collector = _build_collector(recorded, context)

    def note(text: str) -> None:
        if taken.record:
            taken.record.note(text)

    taken = takeover.ResumedRun(
        order,
        by=process.login,
        agent=process.has_ssh_agent,
        learners=[tails, collector, pace, steps],
        views=[diagnosis.HangReporter(collector, note), notifications],
    )
    taken.session.add_subscriber(SaveRequestWatch(split_attempt_path(order.directory)[0], taken.pool))
    pace.outputs.append(note)
    pace.start_reporting(taken.session.state)
    try:
        outcome = taken.continue_run()
        outcome = with_unverified_hosts(outcome, taken.remove_containers())
        outcome, verdict = diagnosis.diagnose_run(collector, taken.session.state, outcome)
        if taken.record:
            if verdict is not None:
                taken.record.write_file(diagnosis.VERDICT, diagnosis.verdict_to_json(verdict))
            slow = pace.list_slow_ranks()
            facts = closing_report.build_facts(
                recorded.heading, taken.session.state, outcome, verdict, tails, slow=slow
            )
            taken.record.finish(outcome, build_report(facts))
        for problem in (*problems, *notifications.finish(outcome, describe_cause(verdict))):
            process.print_message(problem)  # into the record: the output of this process goes there
    finally:
        taken.close()
    if outcome.is_clean:
        guardian.end_watch()
    else:
        guardian.close_pipe()
    return outcome.exit_code
