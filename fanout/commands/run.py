"""``fanout run``: validate the request, then print the plan (``--dry-run``) or launch it, here or in the background.

A function imports what only --pick, --wait or --sync needs, because each import delays the start of every run.
"""

from __future__ import annotations

from collections.abc import Callable

from fanout.model import plan_text
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.request import Request
from fanout.record.index import make_run_id
from fanout.run import detach, foreground
from fanout.run.attempts import AttemptLoop
from fanout.run.choose_view import choose_look
from fanout.run.image_containers import plan_containers
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import RunContext, load_run_context
from fanout.run.run_preparation import make_dry_plan, make_room, validate_run
from fanout.run.task_files import TaskFiles


def run_training(request: Request, process: ProcessContext, *, leavable: bool = True) -> int:
    """Run the command; return the exit status. If not ``leavable``, the user cannot detach (demo runs the hosts here)."""
    context = load_run_context(request, process)
    files = validate_run(context)
    run_id = make_run_id()
    if request.given["dry_run"]:
        if request.given.get("pick"):
            raise UsageError(
                "--pick free asks the hosts, and --dry-run contacts none", hint="fanout check --pick free …"
            )
        return _print_plan(context, files, run_id)
    make_room(context)
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
        if not given.get("sync"):
            return AttemptLoop(context, files, run_id).run
        return lambda parent_pipe=None: _run_attempts(context, files, run_id, parent_pipe)[0]
    from fanout.run.host_choice import HostChooser
    from fanout.run.waiting_run import WaitingPhase

    checks = not context.settings.skip_check and not context.settings.force

    def launch(parent_pipe: detach.ParentPipe | None = None) -> int:
        phase, next_id = WaitingPhase(context, run_id, parent_pipe), run_id
        chooser = HostChooser(context, files, wait_seconds=wait_seconds, checks=checks, phase=phase)
        while True:
            choice = chooser.choose(parent_pipe.deliver_once if parent_pipe is not None else None)
            if choice.context is None:
                phase.end_wait(choice.status, choice.reasons)
                return choice.status
            status, was_outrun = _run_attempts(choice.context, files, next_id, parent_pipe, phase.begin_start)
            phase.end_wait(status, ["not all hosts have the same code"])  # it does nothing if the run has begun
            next_id = make_run_id()
            phase.use_run_id(next_id)
            if wait_seconds is None or not was_outrun:
                return status
            context.process.print_message("another run or process took a host first: waiting again")

    return launch


def _run_attempts(
    context: RunContext,
    files: TaskFiles,
    run_id: str,
    parent_pipe: detach.ParentPipe | None,
    begin_start: Callable[[str], None] | None = None,
) -> tuple[int, bool]:
    """Sync the code if the user asked for it, then run all attempts. Return the status, and whether another run was first."""
    if not context.request.given.get("sync"):
        attempts = AttemptLoop(context, files, run_id, begin_start=begin_start)
        return attempts.run(parent_pipe), attempts.was_outrun
    from fanout.run.project_sync import sync_before_run, write_code

    status, code = sync_before_run(context)
    if code is None:
        return status, False
    attempts = AttemptLoop(context, files, run_id, begin_start=begin_start)
    attempts.prepare()
    write_code(context.process, code, attempts.first.directory)
    return attempts.run(parent_pipe), attempts.was_outrun


def _print_plan(context: RunContext, files: TaskFiles, run_id: str) -> int:
    """Print the plan; contact no host and resolve no name. Return the exit status."""
    containers = plan_containers(context, run_id, files.directory)
    stdout = context.process.stdout
    stdout.write(plan_text.render_plan(make_dry_plan(context, files, run_id), containers))
    stdout.flush()
    return ExitStatus.REFUSED if getattr(stdout, "trouble", "") else ExitStatus.SUCCESS
