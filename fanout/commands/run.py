"""``fanout run``: validate the request, then print the plan (``--dry-run``) or launch it, here or in the background."""

from __future__ import annotations

import time
from functools import partial

from fanout.model import plan, plan_text
from fanout.model.exit_status import ExitStatus
from fanout.model.hosts import Host
from fanout.model.plan import HostFacts
from fanout.model.request import Request
from fanout.model.settings import Settings
from fanout.record import retention
from fanout.record.index import make_run_id
from fanout.remote.fd_limit import raise_file_limit
from fanout.remote.transports.select import TransportSelector
from fanout.run import detach, foreground, restart
from fanout.run.launch import Launch
from fanout.run.load_settings import read_settings
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import build_selector, find_runs_directory, read_hosts
from fanout.run.task_files import check_task_exists, find_work_directory, has_script_here, read_task_config


def run_training(request: Request, process: ProcessContext, *, leavable: bool = True) -> int:
    """Run the command; return the exit status. If not ``leavable``, the user cannot detach (demo runs the hosts here)."""
    settings = read_settings(request, process)
    file, hosts = read_hosts(request, settings, process)
    directory = find_work_directory(settings, process)
    check_task_exists(request.task, directory)
    config = read_task_config(request.task, directory)
    plan.check_exports(hosts, settings)
    restart.check_restart_settings(settings)
    keep = retention.choose_bounds(settings)
    picker = build_selector(settings, process)
    run_id = make_run_id()
    if request.given["dry_run"]:
        return _print_plan(hosts, request, settings, picker, process, run_id, directory)
    raise_file_limit(len(hosts), by_program=settings.transport == "openssh")  # before there is a record of the run
    launch = Launch(request, process, settings, hosts, directory, config, picker, run_id)
    for note in (*retention.prune_runs(find_runs_directory(settings, process), keep, time.time()), *file.notes):
        process.print_message(note)
    work = partial(restart.run_with_restarts, launch, process) if settings.on_hang == "restart" else launch.run
    if request.given["detach"]:
        return detach.run_in_background(process, work)
    if leavable and launch.look.mode == "live" and process.keyboard is not None:
        return foreground.wait_for_launcher(process, work)
    return work()


def _print_plan(
    hosts: tuple[Host, ...],
    request: Request,
    settings: Settings,
    picker: TransportSelector,
    process: ProcessContext,
    run_id: str,
    directory: str,
) -> int:
    """Print the plan; contact no host and resolve no name. Return the exit status."""
    address = {} if hosts[0].addr or settings.master_addr else {hosts[0].name: picker.resolve_address(hosts[0])}
    made = plan.make_plan(
        hosts,
        request.task,
        settings,
        run_id=run_id,
        cwd=directory,
        has_script=has_script_here(settings, directory),
        learned=HostFacts(address=address),
        dry=True,
    )
    process.stdout.write(plan_text.render_plan(made))
    process.stdout.flush()
    return ExitStatus.REFUSED if getattr(process.stdout, "trouble", "") else ExitStatus.SUCCESS
