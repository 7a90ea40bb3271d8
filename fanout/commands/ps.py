"""``fanout ps``: list runs. With HOSTS, ask the hosts; without HOSTS, read the records on this machine."""

from __future__ import annotations

import json
import select
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from fanout.model.attempt_plan import split_attempt_id
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.hosts import fold_names
from fanout.model.process_names import name_process
from fanout.model.request import Request
from fanout.record.run_summary import RunSummary, list_run_summaries
from fanout.run import host_query
from fanout.run.command_context import CommandContext, load_command_context
from fanout.run.host_query import CreatedContainer, HostRuns, OtherRun, RunOnHost, format_time, select_claims
from fanout.run.process_context import ProcessContext
from fanout.run.recorded_progress import add_progress
from fanout.run.run_context import load_run_context
from fanout.text.home_path import shorten_home
from fanout.text.paint import Painter, paint_run_table
from fanout.text.sanitize import to_single_line
from fanout.text.table import format_table
from fanout.text.units import count_noun, format_duration
from fanout.ui.display_mode import choose_text_style
from fanout.ui.refreshed_output import choose_refreshed_output
from fanout.ui.run_table import render_run_tables

RECENT_RUNS = 5  # ended runs that are listed without --all
WATCH_SECONDS = 2.0  # between two refreshes of --watch


def run_ps(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0, 255 if a host could not be asked, or 130 after Ctrl-C. Raises UsageError."""
    if request.hosts:
        if request.given["watch"]:
            raise UsageError(
                "--watch lists the runs that are recorded on this machine, and HOSTS asks the hosts",
                hint="fanout ps --watch",
            )
        return _list_runs_on_hosts(request, process)
    return _list_recorded_runs(request, process)


def _find_table_width(process: ProcessContext) -> int | None:
    """Return the columns of the terminal, or None for a file or a pipe, where the table is not cut."""
    return max(80, process.columns) if process.stdout.isatty() else None


def _choose_colours(context: CommandContext) -> Painter:
    """Return the painter for stdout, with colours if the terminal and the settings allow them."""
    process = context.process
    return Painter(choose_text_style(process.environ, process.stdout, context.settings).colour)


# -- from the hosts


def _list_runs_on_hosts(request: Request, process: ProcessContext) -> int:
    context = load_run_context(request, process)
    answers = host_query.ask_hosts(context)
    silent = [answer for answer in answers if answer.error]
    if request.given["as_json"]:
        objects = [each for answer in answers for each in _answer_to_dicts(answer)]
        process.stdout.write(json.dumps(objects, indent=2) + "\n")
        return ExitStatus.UNREACHABLE if silent else ExitStatus.SUCCESS
    header = ("HOST", "RUN", "STATE", "BY", "SINCE", "RANKS", "PID", "PORT", "GPUS", "LAUNCHER")
    _print_table([_build_row(run, answer.container) for answer in answers for run in answer.runs], header, context)
    others = [_build_other_row(run) for answer in answers for run in answer.others]
    _print_table(others, ("HOST", "OTHER USER", "RUN", "SINCE", "PID", "PORT", "GPUS"), context)
    for answer in answers:
        for orphan in answer.orphan_processes:
            process.stdout.write(f"{answer.host}: left behind: {describe_orphan(orphan, answer.container)}\n")
        for container in answer.containers:
            kind = "" if container.runs else "left behind: "
            process.stdout.write(f"{answer.host}: {kind}{describe_container(container)}\n")
    _print_searched(answers, process)
    if any(answer.has_leftovers for answer in answers):
        process.print_message(
            f"finished runs left processes, records or containers: try:  {context.build_host_command('clean')}"
        )
    return ExitStatus.UNREACHABLE if silent else ExitStatus.SUCCESS


def _print_searched(answers: Sequence[HostRuns], process: ProcessContext) -> None:
    """Print which hosts and directories were searched, because an empty list means nothing without them."""
    asked = [answer for answer in answers if not answer.error]
    if asked:
        places = sorted({path for answer in asked for path in answer.searched})
        process.print_message(
            f"{fold_names(answer.host for answer in asked)}: searched for your runs in {', '.join(places)}"
        )
    for answer in answers:
        if answer.error:
            process.print_message(f"{answer.host}: could not be asked: {to_single_line(answer.error)}")
    inside = [answer.host for answer in asked if answer.in_container]
    if inside:
        process.print_message(f"{fold_names(inside)}: in a container: runs outside of it are not visible here")


def _print_table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...], context: CommandContext) -> None:
    """Print a table, unless it has no row. The run ids are never cut."""
    if rows:
        process, whole = context.process, frozenset({header.index("RUN")})
        table = format_table(rows, header=header, whole=whole, width=_find_table_width(process))
        process.stdout.write("".join(f"{line}\n" for line in paint_run_table(table, _choose_colours(context))))


def _build_other_row(run: OtherRun) -> tuple[str, ...]:
    pid = "?" if run.pid is None else str(run.pid)
    ports, gpus = ",".join(run.ports) or "-", ",".join(run.gpus) or "-"
    return (run.host, run.user, run.run or "(none reported)", format_time(run.since), pid, ports, gpus)


def _build_row(run: RunOnHost, container: str) -> tuple[str, ...]:
    info, claims = run.run_info, run.run_info.get("claims", ())
    ports, gpus = select_claims(claims, "port"), select_claims(claims, "gpu")
    pid = run.entry.get("main") or run.entry.get("keeper") or ""
    return (
        run.host,
        run.run,
        run.state,
        str(info.get("by", "?")),
        format_time(info.get("since")),
        format_ranks(run),
        f"{pid} in {container}" if container else str(pid),
        ",".join(ports),
        ",".join(gpus) or "-",
        run.launcher,
    )


def format_ranks(run: RunOnHost) -> str:
    """Return the global ranks of this host as ``8-15``; if they are not known, its node rank and the node count."""
    first, count = run.run_info.get("first_rank"), run.run_info.get("nproc")
    if not isinstance(first, int) or not isinstance(count, int):
        return f"node {run.node}/{run.run_info.get('nodes', '?')}"
    return str(first) if count == 1 else f"{first}-{first + count - 1}"


def describe_container(container: CreatedContainer) -> str:
    """Return one line about a container that fanout created."""
    return f"container of run {container.run}: {container.state} in {container.engine}, named {container.name}"


def describe_orphan(orphan: Any, container: str) -> str:
    """Return one line about an orphan process; its pid belongs to the container, if there is one."""
    age = f", {format_duration(orphan['age'])} old" if orphan.get("age") is not None else ""
    gpu = f", {orphan['gpu_mb']} MiB of GPU memory" if orphan.get("gpu_mb") else ""
    return f"{name_process(orphan['pid'], container)} of run {orphan['run']}{age}{gpu}: {to_single_line(str(orphan['cmd']))}"


def _answer_to_dicts(answer: HostRuns) -> list[dict[str, Any]]:
    """Return what the host answered, as objects with the keys of a recorded run: each run, and each orphan process.

    A host that could not be asked is one object without a run.
    """
    if answer.error:
        return [_build_dict(answer.host, state="unreachable", cause=to_single_line(answer.error))]
    runs = [
        _build_dict(
            run.host,
            run=run.run,
            state=run.state,
            active=run.is_alive,
            launcher=run.launcher,
            attempt=split_attempt_id(run.run)[1],
            since=run.run_info.get("since"),
            exit_code=(run.entry.get("exited") or {}).get("code"),
            details={"node": run.node, "ranks": format_ranks(run)} | dict(run.entry),
        )
        for run in answer.runs
    ]
    orphans = [
        _build_dict(answer.host, run=orphan["run"], state="left behind", details=dict(orphan))
        for orphan in answer.orphan_processes
    ]
    others = [
        _build_dict(
            run.host, run=run.run or None, state="other user", active=True, since=run.since, details=asdict(run)
        )
        for run in answer.others
    ]
    containers = [
        _build_dict(answer.host, run=each.run, state=f"container {each.state}", active=each.runs, details=asdict(each))
        for each in answer.containers
    ]
    return runs + orphans + others + containers


def _build_dict(host: str, **known: Any) -> dict[str, Any]:
    """Return an object with the keys of a recorded run; what a host does not know is null."""
    unknown: dict[str, Any] = {field.name: None for field in fields(RunSummary)}
    return unknown | {"active": False, "hosts": [host], "details": None} | known


# -- from the records on this machine


def _list_recorded_runs(request: Request, process: ProcessContext) -> int:
    context = load_command_context(request, process)
    root = context.find_runs_directory()
    if request.given["watch"]:
        return _watch_recorded_runs(root, context)
    runs, every = _select_runs(root, all_runs=request.given["all"])
    if request.given["as_json"]:
        process.stdout.write(json.dumps([_summary_to_dict(run) for run in runs], indent=2) + "\n")
        return ExitStatus.SUCCESS
    lines = render_run_tables(runs, time.time(), width=_find_table_width(process), paint=_choose_colours(context))
    process.stdout.write("".join(f"{line}\n" for line in lines))
    more = "to list all:   fanout ps --all\n        " if len(runs) < len(every) else ""
    text = f"{_describe_counts(runs, every)}; recorded in {shorten_home(root)}"
    process.print_message(f"{text}\n        {more}to ask hosts:  fanout ps HOSTS")
    return ExitStatus.SUCCESS


def _select_runs(root: str, *, all_runs: bool) -> tuple[list[RunSummary], list[RunSummary]]:
    """Return the runs to list, with their progress, and all recorded runs: without ``all_runs``, the last ended ones."""
    every = list_run_summaries(root)
    ended = sorted((run for run in every if not run.active), key=lambda run: (run.ended or run.since or 0.0, run.run))
    chosen = [run for run in every if run.active] + (ended if all_runs else ended[-RECENT_RUNS:])
    return [add_progress(run) for run in chosen], every


def _describe_counts(runs: Sequence[RunSummary], every: Sequence[RunSummary]) -> str:
    """Return how many runs are active, and how many of those that have ended are listed."""
    active = sum(run.active for run in every)
    shown, ended = sum(not run.active for run in runs), sum(not run.active for run in every)
    text = f"{count_noun(active, 'active run') if active else 'no active run'}, {ended} ended"
    return f"{text} (the last {shown} are shown)" if shown < ended else text


def _watch_recorded_runs(root: str, context: CommandContext) -> int:
    """List the runs again and again until Ctrl-C; return 130."""
    process, given = context.process, context.request.given
    screen = choose_refreshed_output(process.stdout, process.environ)
    paint = _choose_colours(context)
    try:
        while True:
            runs, every = _select_runs(root, all_runs=given["all"])
            if given["as_json"]:
                process.stdout.write(json.dumps([_summary_to_dict(run) for run in runs]) + "\n")
                process.stdout.flush()
            else:
                lines = render_run_tables(runs, time.time(), width=screen.columns, paint=paint)
                screen.show_lines([*lines, f"fanout: {_describe_counts(runs, every)}"])
            select.select([], [], [], WATCH_SECONDS)
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED


def _summary_to_dict(run: RunSummary) -> dict[str, Any]:
    return asdict(run) | {"details": None}
