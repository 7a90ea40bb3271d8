"""``fanout export``: print the launch plan as a job of a scheduler. No host is contacted."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable

from fanout.export.dstack import render_dstack
from fanout.export.job import Job, build_job
from fanout.export.kubernetes import render_kubernetes
from fanout.export.skypilot import render_skypilot
from fanout.export.slurm import render_slurm
from fanout.model import planner
from fanout.model.credentials import hide_values, is_secret
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.host_facts import HostFacts
from fanout.model.request import Request
from fanout.model.task_words import get_module
from fanout.record.index import make_run_id
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import load_run_context
from fanout.run.task_files import build_planner, read_task_files
from fanout.text.suggest import find_nearest

FORMATS: dict[str, Callable[[Job], str]] = {
    "slurm": render_slurm,
    "kubernetes": render_kubernetes,
    "skypilot": render_skypilot,
    "dstack": render_dstack,
}
MASTER = "192.0.2.1"  # not printed: every format takes the address of the first host from its scheduler


def run_export(request: Request, process: ProcessContext) -> int:
    """Run the command; return the exit status."""
    wanted = request.given["format"]
    if wanted not in FORMATS:
        near = find_nearest(wanted, FORMATS, likeness=0.5)
        words = shlex.join(["fanout", "export", near[0] if near else "slurm", request.hosts, *request.task])
        raise UsageError(f"export: no format {wanted!r}; known: {', '.join(FORMATS)}", hint=words)
    context = load_run_context(request, process)
    named = next((host for host in context.hosts if host.container or host.image), None)
    if named is not None:
        raise UsageError(
            f"export: {named.name} runs in container {named.container or named.image}, which a job does not enter",
            hint="leave out --container, container= and image=; name the image in the job",
        )
    files = read_task_files(context)
    planner.check_exports(context.hosts, context.settings)
    facts = HostFacts(master_addr=MASTER)
    plan = build_planner(context, files, make_run_id()).make_plan(facts, dry=True)
    job = build_job(
        plan,
        name=request.given["name"] or _name_job(request.task),
        gpus=request.given["gpus"],
        command=_format_command(request, context.settings.env),
        seconds=context.settings.time_limit or None,
    )
    process.stdout.write(FORMATS[wanted](job))
    process.stdout.flush()
    return ExitStatus.REFUSED if getattr(process.stdout, "trouble", "") else ExitStatus.SUCCESS


def _name_job(task: tuple[str, ...]) -> str:
    """Return the name of the task's file without its extension, or the last name of its module."""
    if module := get_module(task):
        return module.rpartition(".")[2]
    return os.path.splitext(os.path.basename(task[0]))[0] or "train"


def _format_command(request: Request, env: tuple[tuple[str, str], ...]) -> str:
    """Return the command line as the user typed it, without values of credentials."""
    words = ["fanout", "export", *request.head, request.given["format"], request.hosts, *request.task]
    secrets = {name: value for name, value in env if is_secret(name, value)}
    return hide_values(shlex.join(word for word in words if word), secrets)
