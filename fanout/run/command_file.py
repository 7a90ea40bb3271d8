"""Command file of a run: its command line, for ``fanout rerun``."""

from __future__ import annotations

import os

from fanout.record.command_record import COMMAND_FILE, build_command_record
from fanout.run.command_context import CommandContext


def write_command(context: CommandContext, directory: str) -> None:
    """Record the command line in the directory of the run."""
    process = context.process
    command = build_command_record(context.request, process.environ, process.cwd)
    try:
        with open(os.path.join(directory, COMMAND_FILE), "x", encoding="utf-8") as file:
            file.write(command.to_json())
    except OSError as error:
        process.print_message(f"cannot write {COMMAND_FILE}: {error.strerror}")
