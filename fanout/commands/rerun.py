"""``fanout rerun``: repeat a recorded run with its own command line. Flags that are given now take precedence."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import replace

from fanout.commands.run import run_training
from fanout.model.attempt_plan import split_attempt_id
from fanout.model.errors import UsageError
from fanout.model.request import Request
from fanout.record.command_record import CommandRecord, read_command_record
from fanout.record.run_reader import RunReader
from fanout.run.command_context import load_command_context
from fanout.run.process_context import ProcessContext


def rerun_training(request: Request, process: ProcessContext, parse: Callable[..., Request]) -> int:
    """Run the command; return the exit status of the new run. Raises UsageError."""
    directory = load_command_context(request, process).find_run()
    run, attempt = split_attempt_id(RunReader(directory).heading.run_id)
    directory = os.path.dirname(directory) if attempt else directory
    record = read_command_record(directory, run)
    check_repeatable(record, run, request, process)
    again = parse(record.build_arguments(request.head))
    process.print_message(f"repeating run {run}: {shlex.join(['fanout', *record.build_arguments(request.head)])}")
    return run_training(again, replace(process, environ={**process.environ, **record.variables}))


def check_repeatable(record: CommandRecord, run: str, request: Request, process: ProcessContext) -> None:
    """Raise UsageError if the record cannot be repeated here: other directory, HOSTS of stdin, or missing values."""
    typed = ["fanout", "rerun", *request.head, run]
    if os.path.realpath(record.cwd) != os.path.realpath(process.cwd):
        raise UsageError(
            f"run {run} was launched in {record.cwd}, and its paths are relative to that directory",
            hint=f"cd {shlex.quote(record.cwd)} && {shlex.join(typed)}",
        )
    if record.hosts == "-":
        words = [*record.flags, *request.head, "hosts.txt", "--", *record.task]
        raise UsageError(
            f"run {run} read its hosts from standard input, which is not recorded",
            hint=shlex.join(["fanout", "run", *words]),
        )
    given = {text.partition("=")[0] for text in request.given.get("env") or request.flags.get("env") or ()}
    missing = [name for name in record.withheld if name not in given]
    if missing:
        again = [word for name in missing for word in ("--env", f"{name}=VALUE")]
        raise UsageError(
            f"run {run} had --env {', '.join(missing)}: values of --env are not recorded, give them again",
            hint=shlex.join(["fanout", "rerun", *request.head, *again, run]),
        )
