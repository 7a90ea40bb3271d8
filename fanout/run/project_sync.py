"""Project sync: read the project on this machine, sync it to all hosts, and print what was done."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace

from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus, status_of_signal
from fanout.model.frozen import frozen
from fanout.record.code_record import CODE_FILE, CodeRecord
from fanout.run.connections import open_connections
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import RunContext
from fanout.run.session import Session
from fanout.run.sync_hosts import HostSync, SyncOptions, SyncProgress
from fanout.sync import change_text
from fanout.sync.host_changes import HostResult, SyncOutcome
from fanout.sync.project_files import Project, read_project
from fanout.ui.display_mode import choose_text_style
from fanout.ui.transfer_line import TransferLine


@frozen
class SyncRequest:
    """What the user asked for. ``source`` is the directory to send; "" stands for the work directory."""

    source: str = ""
    add: tuple[str, ...] = ()
    big: bool = False
    delete: bool = False
    yes: bool = False
    dry_run: bool = False


@frozen
class SyncReport:
    """The result of a sync, and the exit status of its command."""

    project: Project
    results: tuple[HostResult, ...]
    status: int
    interrupts: tuple[int, ...] = ()


def sync_before_run(context: RunContext) -> tuple[int, CodeRecord | None]:
    """Sync the hosts and the spares of a run. Return (0, the code), or the exit status and None if a host lacks the code.

    A spare without the code is only named: the run may never need it.
    """
    spares = frozenset(host.name for host in context.spares)
    report = sync_project(replace(context, hosts=(*context.hosts, *context.spares), spares=()), SyncRequest())
    needed = [result for result in report.results if result.host not in spares]
    status = report.status if report.interrupts else compute_status(needed)
    if status:
        context.process.print_message("the run was not started: not all hosts have the same code")
        return (status if report.interrupts or status == ExitStatus.UNREACHABLE else ExitStatus.REFUSED), None
    project = report.project
    code = CodeRecord(
        directory=project.top,
        manifest=project.manifest.digest,
        files=len(project.manifest.files),
        bytes=project.manifest.total_bytes,
        commit=project.commit,
        is_dirty=project.is_dirty,
    )
    return ExitStatus.SUCCESS, code


def write_code(process: ProcessContext, code: CodeRecord, directory: str) -> None:
    """Record the code in the directory of the run."""
    try:
        with open(os.path.join(directory, CODE_FILE), "x", encoding="utf-8") as file:
            file.write(code.to_json())
    except OSError as error:
        process.print_message(f"cannot write {CODE_FILE}: {error.strerror}")


def find_source(context: RunContext, given: str = "") -> str:
    """Return the directory to send: the given one, that of --chdir if it is here, or this directory. Raises UsageError."""
    process, chdir = context.process, context.settings.chdir
    named = os.path.normpath(os.path.join(process.cwd, given or chdir))
    if not given and chdir and not os.path.isdir(named):
        named = process.cwd
    if not process.cwd_exists and not os.path.isabs(given or chdir):
        raise UsageError("the current directory was deleted", hint="cd to the project's directory")
    if given and not os.path.isdir(named):
        raise UsageError(f"there is no directory {given}", hint="fanout sync HOSTS DIR")
    return named


def find_targets(context: RunContext, source: str) -> dict[str, str]:
    """Return the directory on each host: workdir= of the hostfile, that of --chdir, or the same path as here."""
    chdir = context.settings.chdir
    usual = os.path.normpath(os.path.join(context.process.cwd, chdir)) if chdir else source
    return {host.name: host.workdir or usual for host in context.hosts}


def sync_project(context: RunContext, request: SyncRequest) -> SyncReport:
    """Sync the project to all hosts and print the changes. Raises UsageError, LauncherError."""
    process = context.process
    source = find_source(context, request.source)
    unicode = choose_text_style(process.environ, process.stderr, context.settings).unicode
    line = TransferLine(process.stderr, process.columns, unicode=unicode)
    line.show_step(f"reading {source}")
    try:
        project = read_project(source, process.environ, add=request.add, big=request.big)
    finally:
        line.clear()
    for note in project.notes:
        process.print_message(note)
    if not project.manifest.files:
        raise UsageError(f"{source} has no files to send", hint=f"git -C {shlex.quote(source)} status --ignored")
    process.print_message(change_text.describe_project(project))
    results, interrupts = _sync_hosts(context, project, request, line)
    _print_results(context, project, results, request)
    status = status_of_signal(interrupts[0]) if interrupts else compute_status(results)
    return SyncReport(project=project, results=tuple(results), status=status, interrupts=interrupts)


def _sync_hosts(
    context: RunContext, project: Project, request: SyncRequest, line: TransferLine
) -> tuple[list[HostResult], tuple[int, ...]]:
    """Connect and sync. Return the results, and the signals of the user."""
    options = SyncOptions(by=context.process.login, dry_run=request.dry_run, delete=request.delete, yes=request.yes)

    def show(progress: SyncProgress) -> None:
        if progress.total_bytes:
            hosts = f"{progress.done_hosts}/{progress.hosts} hosts"
            line.show_transfer(progress.done_bytes, progress.total_bytes, hosts)
        else:
            line.show_step(progress.step)

    try:
        with open_connections(context) as pool:
            session = Session(pool, context.host_names, [])
            line.show_step("connecting")
            session.connect_hosts()
            line.clear()
            context.print_notices()
            sync = HostSync(session, pool, project, find_targets(context, project.top), options, show)
            results = sync.run()
            interrupts = tuple(session.state.interrupts)
            session.release_hosts()
    finally:
        line.clear()
    return results, interrupts


def _print_results(context: RunContext, project: Project, results: list[HostResult], request: SyncRequest) -> None:
    process = context.process
    for text in change_text.iter_change_lines(results, dry_run=request.dry_run, delete=request.delete):
        process.stdout.write(f"{text}\n")
    process.stdout.flush()
    for text in change_text.iter_error_lines(results):
        process.print_message(text)
    if request.dry_run:
        process.print_message("dry run: nothing was changed")
    else:
        process.print_message(change_text.describe_end(results, project.manifest.digest))


def compute_status(results: list[HostResult]) -> int:
    """Return 255 if a host was not reached or lost, 1 if another failed, else 0."""
    outcomes = {result.outcome for result in results}
    if SyncOutcome.LOST in outcomes:
        return ExitStatus.UNREACHABLE
    return ExitStatus.NEGATIVE if outcomes - {SyncOutcome.EQUAL, SyncOutcome.COMPARED} else ExitStatus.SUCCESS
