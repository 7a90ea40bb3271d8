"""``fanout ps``: list runs. With HOSTS, ask the hosts; without HOSTS, read the records on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fanout.model.attempt_plan import split_attempt_id
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.hosts import fold_names
from fanout.model.request import Request
from fanout.record import writer_lock
from fanout.record.index import HANDLE_FILE, find_last_attempt
from fanout.record.run_reader import RunReader
from fanout.run import host_query
from fanout.run.command_context import CommandContext, load_command_context
from fanout.run.host_query import HostRuns, RunOnHost, format_time
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import load_run_context
from fanout.text.paint import Painter, paint_run_table
from fanout.text.sanitize import to_single_line
from fanout.text.table import format_table
from fanout.text.units import count_noun, format_duration
from fanout.ui.display_mode import choose_text_style


def run_ps(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0, or 255 if a host could not be asked."""
    if request.hosts:
        return _list_runs_on_hosts(request, process)
    return _list_recorded_runs(request, process)


def _find_table_width(process: ProcessContext) -> int | None:
    """Return the columns of the terminal, or None for a file or a pipe, where the table is not cut."""
    return max(80, process.columns) if process.stdout.isatty() else None


def _print_table(lines: Sequence[str], context: CommandContext) -> None:
    """Print a table of runs, with colours if the terminal and the settings allow them."""
    process = context.process
    paint = Painter(choose_text_style(process.environ, process.stdout, context.settings).colour)
    process.stdout.write("\n".join(paint_run_table(lines, paint)) + "\n")


# -- from the hosts


def _list_runs_on_hosts(request: Request, process: ProcessContext) -> int:
    context = load_run_context(request, process)
    answers = host_query.ask_hosts(context)
    silent = [answer for answer in answers if answer.error]
    if request.given["as_json"]:
        process.stdout.write(json.dumps([_answer_to_dict(answer) for answer in answers], indent=2) + "\n")
        return ExitStatus.UNREACHABLE if silent else ExitStatus.SUCCESS
    rows = [_build_row(run) for answer in answers for run in answer.runs]
    header = ("HOST", "RUN", "STATE", "BY", "SINCE", "RANKS", "PID", "PORT", "GPUS", "LAUNCHER")
    if rows:
        _print_table(format_table(rows, header=header, whole=frozenset({1}), width=_find_table_width(process)), context)
    for answer in answers:
        for orphan in answer.orphan_processes:
            process.stdout.write(f"{answer.host}: left behind: {describe_orphan(orphan)}\n")
    _print_searched(answers, process)
    if any(answer.stale_runs or answer.orphan_processes for answer in answers):
        process.print_message(f"finished runs left processes or records: try:  {context.build_host_command('clean')}")
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


def _build_row(run: RunOnHost) -> tuple[str, ...]:
    info, claims = run.run_info, [str(claim) for claim in run.run_info.get("claims", ())]
    ports = [claim.removeprefix("port-") for claim in claims if claim.startswith("port-")]
    gpus = [claim.removeprefix("gpu-") for claim in claims if claim.startswith("gpu-")]
    pid = run.entry.get("main") or run.entry.get("keeper") or ""
    return (
        run.host,
        run.run,
        run.state,
        str(info.get("by", "?")),
        format_time(info.get("since")),
        format_ranks(run),
        str(pid),
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


def describe_orphan(orphan: Any) -> str:
    """Return one line about an orphan process."""
    age = f", {format_duration(orphan['age'])} old" if orphan.get("age") is not None else ""
    gpu = f", {orphan['gpu_mb']} MiB of GPU memory" if orphan.get("gpu_mb") else ""
    return f"pid {orphan['pid']} of run {orphan['run']}{age}{gpu}: {to_single_line(str(orphan['cmd']))}"


def _answer_to_dict(answer: HostRuns) -> dict[str, Any]:
    if answer.error:
        return {"host": answer.host, "error": answer.error}
    runs = [
        {"run": run.run, "node": run.node, "state": run.state, "launcher": run.launcher, "ranks": format_ranks(run)}
        | dict(run.entry)
        for run in answer.runs
    ]
    return {
        "host": answer.host,
        "searched": list(answer.searched),
        "runs": runs,
        "left_behind": list(answer.orphan_processes),
    }


# -- from our own records


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    run: str
    name: str
    state: str
    going: bool
    launcher: str
    since: float
    hosts: tuple[str, ...]
    title: str


def _list_recorded_runs(request: Request, process: ProcessContext) -> int:
    context = load_command_context(request, process)
    root = context.find_runs_directory()
    records = [
        record for name in _list_directories(root) if (record := _read_record(os.path.join(root, name))) is not None
    ]
    shown = [record for record in records if record.going or request.given["all"]]
    if request.given["as_json"]:
        told = [{name: getattr(record, name) for name in _Record.__slots__} for record in records]
        process.stdout.write(json.dumps(told, indent=2) + "\n")
        return ExitStatus.SUCCESS
    named = any(r.name for r in shown)
    rows: list[tuple[str, ...]] = [
        (r.run, *([r.name] if named else []), r.state, format_time(r.since), fold_names(r.hosts), r.launcher, r.title)
        for r in shown
    ]
    if rows:
        header = ("RUN", *(["NAME"] if named else []), "STATE", "SINCE", "HOSTS", "LAUNCHER", "TASK")
        _print_table(format_table(rows, header=header, whole=frozenset({0}), width=_find_table_width(process)), context)
    ended = len(records) - len(shown)
    also = f"; {ended} {'has' if ended == 1 else 'have'} ended (--all shows them)" if ended else ""
    runs = count_noun(len(records), "run")
    process.print_message(f"{runs} recorded in {root}{also}; to ask hosts:  fanout ps HOSTS")
    return ExitStatus.SUCCESS


def _list_directories(root: str) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    except OSError:
        return []


def _read_record(path: str) -> _Record | None:
    try:
        recorded = RunReader(path := find_last_attempt(path))
    except UsageError:
        return None  # some other directory
    run, attempt = split_attempt_id(recorded.heading.run_id)
    result, living = recorded.read_result(), writer_lock.read_owner(path)
    launcher = "-"
    if living is not None:
        how = living.user if living.ending else "detached" if living.detached else "attached"
        launcher = f"{how} (pid {living.pid} on {living.machine})"
        state = "running" if not living.ending else "ending" if result is None else f"ended ({result['exit_code']})"
    elif result is not None:
        state = f"ended ({result['exit_code']})"
    elif os.path.exists(os.path.join(path, HANDLE_FILE)):
        state, launcher = "not known", "lost"
    else:
        state = "not launched"
    return _Record(
        run=run,
        name=recorded.heading.name,
        state=f"{state}, attempt {attempt}" if attempt else state,
        going=living is not None or launcher == "lost",
        launcher=launcher,
        since=recorded.began_at,
        hosts=recorded.heading.hosts,
        title=recorded.heading.title,
    )
