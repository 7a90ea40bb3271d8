"""Functions of the Python API. Each does what the command of its name does, without a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fanout.api.active_run import ActiveRun, EventQueue, FinishedRun
from fanout.api.caller import MessageStream, build_caller_context
from fanout.api.recorded_run import RunRecord
from fanout.api.request_options import build_request
from fanout.model.errors import UsageError
from fanout.model.plan import LaunchPlan
from fanout.preflight.run_checks import Preflight
from fanout.record.index import make_run_id
from fanout.record.run_lookup import find_attempts
from fanout.run.attempts import AttemptLoop
from fanout.run.command_context import load_command_context
from fanout.run.host_check import run_host_check, select_checks
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import RunContext, load_run_context
from fanout.run.run_preparation import make_dry_plan, make_room, validate_run
from fanout.run.task_files import read_task_files
from fanout.ui.display_mode import SILENT

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fanout.api.option_types import CheckOptions, RunOptions

Hosts = str | Sequence[str]
Environ = Mapping[str, str]


def run(
    hosts: Hosts,
    task: Sequence[str],
    *,
    environ: Environ | None = None,
    cwd: str | None = None,
    **options: Unpack[RunOptions],
) -> FinishedRun:
    """Check, launch on all hosts, stop together and diagnose. Return when the run has ended.

    A failed run is a return value. The call raises an error only if nothing could be launched. Ctrl-C stops the run and
    then raises KeyboardInterrupt.
    """
    with start(hosts, task, environ=environ, cwd=cwd, **options) as active:
        return active.wait()


def start(
    hosts: Hosts,
    task: Sequence[str],
    *,
    environ: Environ | None = None,
    cwd: str | None = None,
    **options: Unpack[RunOptions],
) -> ActiveRun:
    """Begin what ``run`` does in a thread, and return the run. Raises UsageError, HostfileError, LauncherError."""
    if not task:
        raise UsageError("run: TASK is missing", hint='fanout.run("hosts.txt", ["task.py", "cfg.yaml"])')
    messages = MessageStream()
    process = build_caller_context(messages, environ, cwd)
    assert process.signals is not None
    context = _load_context("run", hosts, task, options, process)
    files = validate_run(context)
    make_room(context)
    queue = EventQueue()
    loop = AttemptLoop(context, files, make_run_id(), observers=[queue])
    loop.prepare()
    return ActiveRun(loop, queue, process.signals, messages)


def check(
    hosts: Hosts,
    task: Sequence[str] = (),
    *,
    environ: Environ | None = None,
    cwd: str | None = None,
    **options: Unpack[CheckOptions],
) -> Preflight:
    """Check the hosts, and the task if there is one. Return ``ok``, ``findings``, ``failures`` and ``warnings``."""
    process = build_caller_context(MessageStream(), environ, cwd)
    context = _load_context("check", hosts, task, options, process)
    given = context.request.given
    selection = select_checks(given["only"], given["skip"], deep=given["deep"])
    result = run_host_check(context, read_task_files(context), selection)
    if isinstance(result, int):
        raise KeyboardInterrupt
    return result


def plan(
    hosts: Hosts,
    task: Sequence[str],
    *,
    environ: Environ | None = None,
    cwd: str | None = None,
    **options: Unpack[RunOptions],
) -> LaunchPlan:
    """Return the plan that ``fanout run --dry-run`` prints. No host is contacted."""
    process = build_caller_context(MessageStream(), environ, cwd)
    context = _load_context("run", hosts, task, options, process)
    return make_dry_plan(context, validate_run(context), make_run_id())


def record(
    run: str = "", *, environ: Environ | None = None, cwd: str | None = None, log_dir: str | None = None
) -> RunRecord:
    """Return a recorded run: RUN is an id, a part of it, a name, ``@-1``, or "" for the latest. Raises UsageError."""
    process = build_caller_context(MessageStream(), environ, cwd)
    context = load_command_context(build_request("logs", "", (), {"log_dir": log_dir}), process)
    return RunRecord(directories=tuple(find_attempts(run, context.find_runs_directory())))


def _load_context(
    verb: str, hosts: Hosts, task: Sequence[str], options: Mapping[str, object], process: ProcessContext
) -> RunContext:
    """Return the context of a call, whose view shows nothing."""
    if isinstance(task, str):
        raise UsageError(f"{verb}: task is a list of words", hint=f"[{task!r}]")
    context = load_run_context(build_request(verb, hosts, task, options), process)
    return replace(context, settings=replace(context.settings, output=SILENT))
