"""``fanout run``: validate the request, then print the plan (``--dry-run``) or launch it, here or in the background."""

from __future__ import annotations

import time
from functools import partial

from fanout import dryrun, plan
from fanout.arguments import Request
from fanout.descriptors import make_room
from fanout.errors import LauncherError
from fanout.hosts import Host
from fanout.plan import Learned
from fanout.settings import Settings
from fanout.transports.pick import Picker
from fanout.verbs import again, detach, front, keeping
from fanout.verbs.common import (
    Edge,
    config_values,
    has_script_here,
    hosts_of,
    look_for_task,
    picker_of,
    runs_directory,
    settings_of,
    work_directory,
)
from fanout.verbs.launching import Launch
from fanout.verbs.runs import new_id


def run(request: Request, edge: Edge, *, leavable: bool = True) -> int:
    """Run the command; return the exit status. If not ``leavable``, the user cannot detach (demo runs the hosts here)."""
    settings = settings_of(request, edge)
    file, hosts = hosts_of(request, settings, edge)
    directory = work_directory(settings, edge)
    look_for_task(request.task, directory)
    config = config_values(request.task, directory)
    plan.check_exports(hosts, settings)
    again.check(settings)
    keep = keeping.bounds_of(settings)
    picker = picker_of(settings, edge)
    run_id = new_id()
    if request.given["dry_run"]:
        return _dry_run(hosts, request, settings, picker, edge, run_id, directory)
    make_room(len(hosts), by_program=settings.transport == "openssh")  # before there is a record of the run
    launch = Launch(request, edge, settings, hosts, directory, config, picker, run_id)
    for note in (*keeping.prune(runs_directory(settings, edge), keep, time.time()), *file.notes):
        edge.say(note)
    work = partial(again.repeated, launch, edge) if settings.on_hang == "restart" else launch.run
    if request.given["detach"]:
        return detach.apart(edge, work)
    if leavable and launch.look.mode == "live" and edge.keyboard is not None:
        return front.wait(edge, work)
    return work()


def _dry_run(
    hosts: tuple[Host, ...],
    request: Request,
    settings: Settings,
    picker: Picker,
    edge: Edge,
    run_id: str,
    directory: str,
) -> int:
    """Print the plan; contact no host and resolve no name. Return the exit status."""
    address = {} if hosts[0].addr or settings.master_addr else {hosts[0].name: picker.address(hosts[0])}
    made = plan.make(
        hosts,
        request.task,
        settings,
        run_id=run_id,
        cwd=directory,
        has_script=has_script_here(settings, directory),
        learned=Learned(address=address),
        dry=True,
    )
    edge.stdout.write(dryrun.shown(made))
    edge.stdout.flush()
    return LauncherError.exit_code if getattr(edge.stdout, "trouble", "") else 0
