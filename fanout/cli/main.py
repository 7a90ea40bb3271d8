"""Command line entry point: the only module that reads argv and the process state, and that returns an exit status."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from fanout.model.errors import FanoutError
from fanout.model.exit_status import ExitStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fanout.model.request import Request
    from fanout.run.process_context import ProcessContext
    from fanout.ui.safe_writer import SafeStream

HELP = ("-h", "--help", "help")
COMMANDS_WITH_RECORD = ("run", "attach")  # they return the run's status; all output is on disk as well


def entry() -> None:
    """Run the console script."""
    _open_standard_streams()
    gc.set_threshold(50_000)  # imports create many objects and almost no garbage; collections slow every start
    status = main(sys.argv[1:])
    gc.freeze()  # a collection at exit takes a tenth of the time of a short command
    sys.exit(status)


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit status. A user's mistake prints one sentence, never a traceback."""
    from fanout.ui.safe_writer import SafeStream, silence_stream

    err = SafeStream(sys.stderr)
    out = SafeStream(sys.stdout, failed=lambda why: _report_gaps(err, why))
    status: int
    try:
        status = _run_command_line(argv, out, err)
        out.flush_or_silence()
        if out.trouble and not status and argv[0] not in COMMANDS_WITH_RECORD:
            status = ExitStatus.REFUSED  # the requested output is incomplete
    except FanoutError as error:
        from fanout.text.wrap import wrap_message

        label = "" if error.hint.startswith("did you mean") else "try:  "
        hint = f"        {label}{error.hint}\n" if error.hint else ""
        err.write(f"{wrap_message(str(error), _terminal_width() if err.isatty() else None)}\n{hint}")
        status = error.exit_code
    except BrokenPipeError:
        silence_stream(sys.stdout)
        status = ExitStatus.BROKEN_PIPE
    except KeyboardInterrupt:
        err.write("fanout: interrupted\n")
        status = ExitStatus.INTERRUPTED
    err.flush_or_silence()
    return status


def _report_gaps(err: SafeStream, why: str) -> None:
    err.write(f"fanout: stdout: {why}: the output has gaps\n")
    err.flush()


def _run_command_line(argv: Sequence[str], out: SafeStream, err: SafeStream) -> int:
    """Run the command. The overview is the most common help, so it is printed before other modules are imported."""
    if not argv or (len(argv) == 1 and argv[0] in HELP):
        from fanout.cli.overview import format_overview

        out.write(format_overview(_terminal_width()))
        return ExitStatus.SUCCESS
    from fanout.cli.parser import HelpRequested, parse_arguments

    try:
        return _run_command(parse_arguments(argv, columns=_terminal_width()), out, err)
    except HelpRequested as shown:
        out.write(str(shown))
        return ExitStatus.SUCCESS


def _run_command(request: Request, out: SafeStream, err: SafeStream) -> int:
    """Build the process context and run the command."""
    import socket
    from typing import Any

    from fanout.run.process_context import ProcessContext, find_user_name
    from fanout.ui.display_mode import is_ascii_locale

    err.ascii_only = is_ascii_locale(os.environ)
    stdout: Any = out  # both have the methods of text streams
    stderr: Any = err
    cwd, cwd_exists = _working_directory()
    process = ProcessContext(
        environ=dict(os.environ),
        cwd=cwd,
        cwd_exists=cwd_exists,
        stdout=stdout,
        stderr=stderr,
        stdin=sys.stdin.buffer.read if sys.stdin is not None else lambda _: b"",
        line=sys.stdin.readline if sys.stdin is not None else str,
        user=find_user_name(),
        machine=socket.gethostname(),
        prefix=sys.prefix if sys.prefix != sys.base_prefix else "",
        columns=_terminal_width(),
        keyboard=sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None,
    )
    for note in request.notes:
        process.print_message(note)
    return call_command(request, process)


def call_command(request: Request, process: ProcessContext) -> int:
    """Call the function of the request's command; return the exit status. Import only that command's module."""
    from fanout.cli.command_table import COMMANDS, import_function

    command = COMMANDS[request.verb]
    needs = (import_function(command.needs),) if command.needs else ()
    status: int = command.import_function()(request, process, *needs)
    return status


def _terminal_width() -> int:
    """Return the width of the terminal, as shutil does. The import of shutil would add 8 ms to --help."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and len(columns) < 5 and int(columns):
        return int(columns)
    for descriptor in (1, 2):  # stdout may be a pipe
        try:
            return os.get_terminal_size(descriptor).columns or 100
        except OSError:
            continue
    return 100


def _working_directory() -> tuple[str, bool]:
    """Return the working directory and whether it exists.

    Prefer $PWD: below a symbolic link, it is the path that is the same on every host.
    """
    named = os.environ.get("PWD", "")
    try:
        there = os.getcwd()
        if named and os.path.isabs(named) and os.path.samefile(named, there):
            return named, True
        return there, True
    except OSError:  # the directory was deleted, or a parent is not readable
        return (named if os.path.isabs(named) else "/"), os.path.isdir(named)


def _open_standard_streams() -> None:
    """Open /dev/null for each closed standard stream. Otherwise the next opened file would get its descriptor."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
