"""``fanout check``: check that the hosts can train; report each failing host, the cause and the fix."""

from __future__ import annotations

from fanout.checks.engine import explanations
from fanout.checks.engine.catalogue import CATALOGUE
from fanout.model.events import Event
from fanout.model.exit_status import ExitStatus, status_of_signal
from fanout.model.hosts import fold_names
from fanout.model.request import Request
from fanout.model.state import RunState
from fanout.run.check_request import render_report, to_json
from fanout.run.host_check import run_host_check, select_checks
from fanout.run.host_choice import HostChooser
from fanout.run.next_command import build_run_command
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import load_run_context
from fanout.run.task_files import read_task_files
from fanout.ui.replaced_line import ReplacedLine


class _ProgressLine:
    """Progress line on a terminal while hosts answer; prints nothing in a pipe."""

    broken = False

    def __init__(self, process: ProcessContext) -> None:
        self._line = ReplacedLine(process.stderr, process.columns)
        self._doing = False

    def __call__(self, event: Event, state: RunState) -> None:
        if not self._doing:
            self._line.show(describe_answers(state))

    def show_step(self, text: str) -> None:
        """Show the current step instead of the number of hosts that answer."""
        self._doing = True
        self._line.show(f"{text} …")

    def close(self) -> None:
        self._line.clear()


def describe_answers(state: RunState) -> str:
    """Return how many hosts answer, and the names of those that are awaited."""
    up = sum(host.connected for host in state.all_hosts)
    awaited = [host.name for host in state.all_hosts if not host.connected and host.trouble is None]
    waits = f", waiting for {fold_names(awaited)}" if awaited and up else ""
    return f"{up}/{len(state.all_hosts)} hosts answer{waits} …"


def run_check(request: Request, process: ProcessContext) -> int:
    """Run the command; return the exit status."""
    given = request.given
    if given["listing"]:
        process.stdout.write("\n".join(explanations.render_check_list(CATALOGUE, process.columns)) + "\n")
        return ExitStatus.SUCCESS
    if given["explain"]:
        process.stdout.write(
            "\n".join(explanations.render_check(explanations.find_check(CATALOGUE, given["explain"]), process.columns))
            + "\n"
        )
        return ExitStatus.SUCCESS
    selection = select_checks(given["only"], given["skip"], deep=given["deep"])
    context = load_run_context(request, process)
    files = read_task_files(context)
    if given["pick"]:
        choice = HostChooser(context, files, wait_seconds=None).choose()
        if choice.context is None:
            return ExitStatus.NEGATIVE if choice.status == ExitStatus.REFUSED else choice.status
        context = choice.context
    progress = _ProgressLine(process)
    result = run_host_check(context, files, selection, subscribers=[progress], show_step=progress.show_step)
    progress.close()
    if isinstance(result, int):
        process.print_message("interrupted")
        return status_of_signal(result)
    if given["as_json"]:
        process.stdout.write(to_json(result))
    else:
        title, command = f"fanout check {context.request.hosts}", build_run_command(request)
        process.stdout.write(render_report(title, result, context, process.stdout, command))
    return result.compute_exit_code(strict=given["strict"])
