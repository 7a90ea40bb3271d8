"""``fanout clean``: list leftovers of finished runs on hosts, remove them after confirmation, and check again.

clean touches only processes and records that provably belong to a run of this user without a keeper. It never touches
an active run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fanout.commands.ps import describe_container, describe_orphan
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.hosts import fold_names
from fanout.model.request import Request
from fanout.run import host_query
from fanout.run.host_query import CreatedContainer, HostRuns, RunOnHost
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import load_run_context
from fanout.text.sanitize import to_single_line
from fanout.text.units import format_age, format_size


def run_clean(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0 if nothing is left, 1 if something is left, 255 if a host could not be asked."""
    context = load_run_context(request, process)
    answers = host_query.ask_hosts(context)
    silent = any(answer.error for answer in answers)
    _print_leftovers(answers, process)
    args = {answer.host: _build_orders(answer) for answer in answers if answer.has_leftovers}
    if not args:
        asked = [answer.host for answer in answers if not answer.error]
        if asked:
            process.print_message(f"{fold_names(asked)}: nothing is left of ended runs")
        return ExitStatus.UNREACHABLE if silent else ExitStatus.SUCCESS
    if not request.given["yes"] and not _is_confirmed(process, sorted(args)):
        process.print_message("nothing was removed")
        return ExitStatus.NEGATIVE
    again = host_query.ask_hosts(context, "clean", args)
    left = _print_remaining(again, process)
    if silent or any(answer.error for answer in again):
        return ExitStatus.UNREACHABLE
    return ExitStatus.NEGATIVE if left else ExitStatus.SUCCESS


def _print_leftovers(answers: Sequence[HostRuns], process: ProcessContext) -> None:
    for answer in answers:
        if answer.error:
            process.print_message(f"{answer.host}: could not be asked: {to_single_line(answer.error)}")
        for run in answer.runs:
            if run.is_unresponsive:
                process.stdout.write(f"{answer.host}: kept run {run.run}: {_describe_unresponsive(run)}\n")
            elif run.is_alive:
                process.stdout.write(f"{answer.host}: kept run {run.run}: it is active ({run.state})\n")
            elif run.is_being_fetched:
                process.stdout.write(
                    f"{answer.host}: kept run {run.run}: a launcher is fetching its result now ({run.state})\n"
                )
        for orphan in answer.orphan_processes:
            process.stdout.write(f"{answer.host}: {describe_orphan(orphan, answer.container)}\n")
        for container in answer.containers:
            text = f"{describe_container(container)}{_describe_end(container)}"
            process.stdout.write(f"{answer.host}: {'kept ' if container.runs else ''}{text}\n")
        for engine, why in answer.silent_engines.items():
            process.print_message(f"{answer.host}: {engine} was not searched for containers: {to_single_line(why)}")
        for run in answer.stale_runs:
            process.stdout.write(f"{answer.host}: {_describe_record(run)}\n")


def _describe_end(container: CreatedContainer) -> str:
    """Return how a container that is kept ends, or the command that the user can type on the host."""
    if container.state == "paused":
        return f"; on that host: {container.engine} unpause {container.name}"
    return "; it ends with its run" if container.runs else ""


def _describe_unresponsive(run: RunOnHost) -> str:
    """Return the state of a keeper that does not answer, and the command that the user can type on the host."""
    pid, state = run.entry.get("keeper") or "?", to_single_line(str(run.entry.get("keeper_state") or "?"))
    command = f"kill -CONT {pid}" if state in ("T", "t") else f"kill -KILL {pid}"
    return f"its keeper (pid {pid}, state {state}) does not answer; on that host: {command}, then run clean again"


def _describe_record(run: RunOnHost) -> str:
    ago = format_age(float(run.entry.get("changed") or 0.0))
    kept = format_size(int(run.entry.get("bytes") or 0))
    return f"record of run {run.run}, {run.state} {ago} ago, {kept}: {to_single_line(str(run.entry['directory']))}"


def _build_orders(answer: HostRuns) -> Mapping[str, Any]:
    return {
        "runs": [[run.run, run.node] for run in answer.stale_runs],
        "containers": [[each.engine, each.name] for each in answer.stale_containers],
        "processes": [[orphan["pid"], orphan["start"]] for orphan in answer.orphan_processes],
    }


def _is_confirmed(process: ProcessContext, hosts: Sequence[str]) -> bool:
    """Ask for confirmation at the terminal. Raises UsageError without a terminal."""
    process.stdout.flush()
    process.stderr.write(
        f"fanout: kill these processes and delete these records and containers on {fold_names(hosts)}? [y/N] "
    )
    process.stderr.flush()
    if not process.stdout.isatty():
        process.stderr.write("\n")
        raise UsageError("clean: no terminal to ask for confirmation", hint="fanout clean --yes HOSTS")
    return process.line().strip().lower() in ("y", "yes")


def _print_remaining(again: Sequence[HostRuns], process: ProcessContext) -> bool:
    """Report what the hosts still have; return whether anything is left."""
    left = False
    for answer in again:
        if answer.error:
            process.print_message(f"{answer.host}: could not be asked again: {to_single_line(answer.error)}")
            continue
        left_containers = map(describe_container, answer.stale_containers)
        records = map(_describe_record, answer.stale_runs)
        processes = (describe_orphan(orphan, answer.container) for orphan in answer.orphan_processes)
        for what in (*processes, *records, *left_containers):
            process.print_message(f"{answer.host}: still there: {what}")
            left = True
    whole = [answer.host for answer in again if not answer.error and not answer.has_leftovers]
    if whole:
        killed = sum(answer.killed for answer in again)
        ended = "1 process was killed" if killed == 1 else f"{killed} processes were killed"
        process.print_message(f"{fold_names(whole)}: checked again: nothing is left of ended runs ({ended})")
    return left
