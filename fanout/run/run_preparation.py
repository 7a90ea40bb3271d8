"""Steps before a launch, for ``fanout run`` and the Python API: validate the request, make the plan, free disk space."""

from __future__ import annotations

import time

from fanout.model import planner
from fanout.model.host_facts import HostFacts
from fanout.model.plan import LaunchPlan
from fanout.record import retention
from fanout.record.run_lookup import check_run_name
from fanout.remote.fd_limit import raise_file_limit
from fanout.run.recovery_options import check_restart_settings
from fanout.run.run_context import RunContext
from fanout.run.task_files import TaskFiles, build_planner, read_task_files


def validate_run(context: RunContext) -> TaskFiles:
    """Return the files of the task if the request is valid. No host is contacted. Raises UsageError."""
    files = read_task_files(context)
    planner.check_exports(context.hosts, context.settings)
    check_restart_settings(context.settings)
    retention.choose_bounds(context.settings)
    if name := context.request.given.get("name"):
        check_run_name(name)
    return files


def make_dry_plan(context: RunContext, files: TaskFiles, run_id: str) -> LaunchPlan:
    """Return the plan as far as it is known without the hosts: contact none of them and resolve no name."""
    first = context.hosts[0]
    is_given = bool(first.addr or context.settings.master_addr)
    addresses = {} if is_given else {first.name: context.selector.resolve_address(first)}
    return build_planner(context, files, run_id).make_plan(HostFacts(addresses=addresses), dry=True)


def make_room(context: RunContext) -> None:
    """Raise the limit of open files, and delete old records of runs. Raises LauncherError."""
    raise_file_limit(len(context.hosts), context.selector.open_files)  # before there is a record of the run
    bounds = retention.choose_bounds(context.settings)
    pruned = retention.prune_runs(context.find_runs_directory(), bounds, time.time())
    for note in (*pruned, *context.notes):
        context.process.print_message(note)
