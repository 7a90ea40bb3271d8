"""``fanout run``: validate the request, then print the plan (``--dry-run``) or launch it, here or in the background."""

from __future__ import annotations

import time
from collections.abc import Callable

from fanout.model import plan_text, planner
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.host_facts import HostFacts
from fanout.model.request import Request
from fanout.record import retention
from fanout.record.index import make_run_id
from fanout.record.run_lookup import check_run_name
from fanout.remote.fd_limit import raise_file_limit
from fanout.run import detach, foreground
from fanout.run.attempts import AttemptLoop
from fanout.run.choose_view import choose_look
from fanout.run.host_choice import HostChooser
from fanout.run.process_context import ProcessContext
from fanout.run.recovery_options import check_restart_settings
from fanout.run.run_context import RunContext, load_run_context
from fanout.run.task_files import TaskFiles, build_planner, read_task_files


def run_training(request: Request, process: ProcessContext, *, leavable: bool = True) -> int:
    """Run the command; return the exit status. If not ``leavable``, the user cannot detach (demo runs the hosts here)."""
    context = load_run_context(request, process)
    settings, hosts = context.settings, context.hosts
    files = read_task_files(context)
    planner.check_exports(hosts, settings)
    check_restart_settings(settings)
    keep = retention.choose_bounds(settings)
    if request.given["name"]:
        check_run_name(request.given["name"])
    run_id = make_run_id()
    if request.given["dry_run"]:
        if request.given.get("pick"):
            raise UsageError(
                "--pick free asks the hosts, and --dry-run contacts none", hint="fanout check --pick free …"
            )
        return _print_plan(context, files, run_id)
    raise_file_limit(len(hosts), context.selector.open_files)  # before there is a record of the run
    for note in (*retention.prune_runs(context.find_runs_directory(), keep, time.time()), *context.notes):
        process.print_message(note)
    work = _build_work(context, files, run_id)
    if request.given["detach"]:
        return detach.run_in_background(process, work)
    if leavable and choose_look(context).mode == "live" and process.keyboard is not None:
        return foreground.wait_for_launcher(process, work)
    return work()


def _build_work(context: RunContext, files: TaskFiles, run_id: str) -> Callable[..., int]:
    """Return the function that launches the run and returns its exit status, with --pick and --wait before it."""
    wait_seconds, given = context.request.given.get("wait"), context.request.given
    if wait_seconds is None and not given.get("pick"):
        return AttemptLoop(context, files, run_id).run
    checks = not context.settings.skip_check and not context.settings.force
    chooser = HostChooser(context, files, wait_seconds=wait_seconds, checks=checks)

    def launch(parent_pipe: detach.ParentPipe | None = None) -> int:
        while True:
            choice = chooser.choose(parent_pipe.deliver_once if parent_pipe is not None else None)
            if choice.context is None:
                return choice.status
            attempts = AttemptLoop(choice.context, files, make_run_id())
            status = attempts.run(parent_pipe)
            if wait_seconds is None or not attempts.was_outrun:
                return status
            context.process.print_message("another run or process took a host first: waiting again")

    return launch


def _print_plan(context: RunContext, files: TaskFiles, run_id: str) -> int:
    """Print the plan; contact no host and resolve no name. Return the exit status."""
    first = context.hosts[0]
    is_given = bool(first.addr or context.settings.master_addr)
    addresses = {} if is_given else {first.name: context.selector.resolve_address(first)}
    made = build_planner(context, files, run_id).make_plan(HostFacts(addresses=addresses), dry=True)
    stdout = context.process.stdout
    stdout.write(plan_text.render_plan(made))
    stdout.flush()
    return ExitStatus.REFUSED if getattr(stdout, "trouble", "") else ExitStatus.SUCCESS
