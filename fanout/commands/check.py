"""``fanout check``: check that the hosts can train; report each failing host, the cause and the fix."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from fanout.checks.engine import explanations
from fanout.checks.engine.catalogue import CATALOGUE
from fanout.model import plan
from fanout.model.events import Event
from fanout.model.exit_status import ExitStatus, status_of_signal
from fanout.model.hosts import Host
from fanout.model.plan import LaunchPlan
from fanout.model.request import Request
from fanout.model.settings import Settings
from fanout.model.state import RunState
from fanout.preflight import run_checks
from fanout.preflight.run_checks import PreflightFacts
from fanout.run.check_request import build_check_request, build_commands, render_report, to_json, to_plan_facts
from fanout.run.connections import open_connections, print_notices
from fanout.run.deep_request import build_torch_test
from fanout.run.load_settings import read_settings
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import build_selector, read_hosts
from fanout.run.session import Session
from fanout.run.task_files import check_task_exists, find_work_directory, has_script_here, read_task_config
from fanout.text.sanitize import sanitize_line
from fanout.ui.safe_writer import unwrap_stream


class _ProgressLine:
    """Progress line on a terminal while hosts answer; prints nothing in a pipe."""

    broken = False

    def __init__(self, process: ProcessContext) -> None:
        self._stderr = unwrap_stream(process.stderr)
        self._shown = ""
        self._doing = False
        self._on = process.stderr.isatty()

    def __call__(self, event: Event, state: RunState) -> None:
        if not self._doing:
            up = sum(host.linked for host in state.all_hosts)
            self._print_line(f"{up}/{len(state.all_hosts)} hosts answer …")

    def show_step(self, text: str) -> None:
        """Show the current step instead of the number of hosts that answer."""
        self._doing = True
        self._print_line(f"{text} …")

    def _print_line(self, text: str) -> None:
        if self._on and text != self._shown:
            self._shown = text
            self._stderr.write(f"\r\x1b[K{sanitize_line(text, colour=False)}")
            self._stderr.flush()

    def close(self) -> None:
        if self._shown:
            self._stderr.write("\r\x1b[K")
            self._stderr.flush()


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
    only, skip = (explanations.validate_check_names(CATALOGUE, _split_names(given[name])) for name in ("only", "skip"))
    deep = given["deep"] or any(name.split("-")[0] == "deep" for name in only)
    settings = read_settings(request, process)
    hosts = read_hosts(request, settings, process)[1]
    directory = find_work_directory(settings, process)
    check_task_exists(request.task, directory)
    config = read_task_config(request.task, directory)
    picker = build_selector(settings, process)
    names = [host.name for host in hosts]
    progress = _ProgressLine(process)
    began = time.monotonic()
    with open_connections(hosts, settings, picker, process) as fan:
        session = Session(fan, names, [progress])
        session.connect_hosts()
        print_notices(picker, process)
        result = None
        if not session.state.interrupts:
            asked = build_check_request(session, hosts, request.task, directory, settings, config)
            typed = build_commands(hosts, settings, picker, request.hosts or "")
            asked = dataclasses.replace(asked, only=only, skip=skip, deep=deep, commands=typed)
            test = build_torch_test(session, request.task, settings, directory, progress.show_step) if deep else None
            planner = _build_planner(hosts, request.task, settings, directory)
            result = run_checks.run(asked, session, plan=planner, deep=test, began=began)
        session.release_hosts()
    progress.close()
    if session.state.interrupts or result is None:
        process.print_message("interrupted")
        return status_of_signal(session.state.interrupts[0])
    process.stdout.write(
        to_json(result)
        if given["as_json"]
        else render_report(f"fanout check {request.hosts}", result, process, process.stdout)
    )
    return result.compute_exit_code(strict=given["strict"])


def _build_planner(
    hosts: tuple[Host, ...], task: tuple[str, ...], settings: Settings, directory: str
) -> Callable[[PreflightFacts], LaunchPlan]:
    """Return a function that makes the plan of `run` from the facts that the check found."""

    def made(learned: PreflightFacts) -> LaunchPlan:
        script = has_script_here(settings, directory)
        return plan.make_plan(
            hosts, task, settings, run_id="check", cwd=directory, has_script=script, learned=to_plan_facts(learned)
        )

    return made


def _split_names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
