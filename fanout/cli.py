"""Command line entry point: the only module that reads argv and the process state, and that returns an exit status."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from fanout.errors import FanoutError, LauncherError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fanout.arguments import Request
    from fanout.verbs.common import Edge
    from fanout.views.out import Words

HELP = ("-h", "--help", "help")
HOLDS_A_RECORD = ("run", "attach")  # they return the run's status; all output is on disk as well


def entry() -> None:
    """Run the console script."""
    _open_standard_streams()
    gc.set_threshold(50_000)  # imports create many objects and almost no garbage; collections slow every start
    status = main(sys.argv[1:])
    gc.freeze()  # a collection at exit takes a tenth of the time of a short command
    sys.exit(status)


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit status. A user's mistake prints one sentence, never a traceback."""
    from fanout.views.out import Words, silence

    err = Words(sys.stderr)
    out = Words(sys.stdout, failed=lambda why: _tell_of_gaps(err, why))
    try:
        status = _run(argv, out, err)
        out.settle()
        if out.trouble and not status and argv[0] not in HOLDS_A_RECORD:
            status = LauncherError.exit_code  # the requested output is incomplete
    except FanoutError as error:
        hint = f"        try:  {error.hint}\n" if error.hint else ""
        err.write(f"fanout: {error}\n{hint}")
        status = error.exit_code
    except BrokenPipeError:
        silence(sys.stdout)
        status = 141
    except KeyboardInterrupt:
        err.write("fanout: interrupted\n")
        status = 130
    err.settle()
    return status


def _tell_of_gaps(err: Words, why: str) -> None:
    err.write(f"fanout: stdout: {why}: the output has gaps\n")
    err.flush()


def _run(argv: Sequence[str], out: Words, err: Words) -> int:
    """Run the command. The overview is the most common help, so it is printed before other modules are imported."""
    if not argv or argv[0] in HELP:
        from fanout.flags import overview

        out.write(overview(_columns()))
        return 0
    from fanout.arguments import Shown, parse

    try:
        return _verb(parse(argv, columns=_columns()), out, err)
    except Shown as shown:
        out.write(str(shown))
        return 0


def _verb(request: Request, out: Words, err: Words) -> int:
    """Build the process context and run the command. Import only that command's module: --help and errors stay fast."""
    import socket
    from typing import Any

    from fanout.verbs.common import Edge
    from fanout.views.base import no_symbols

    err.ascii_only = no_symbols(os.environ)
    stdout: Any = out  # both have the methods of text streams
    stderr: Any = err
    cwd, cwd_exists = _cwd()
    edge = Edge(
        environ=dict(os.environ),
        cwd=cwd,
        cwd_exists=cwd_exists,
        stdout=stdout,
        stderr=stderr,
        stdin=sys.stdin.buffer.read if sys.stdin is not None else lambda _: b"",
        line=sys.stdin.readline if sys.stdin is not None else str,
        user=_user(),
        machine=socket.gethostname(),
        prefix=sys.prefix if sys.prefix != sys.base_prefix else "",
        columns=_columns(),
        keyboard=sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None,
    )
    for note in request.notes:
        edge.say(note)
    match request.verb:
        case "run":
            from fanout.verbs.run import run

            return run(request, edge)
        case "check":
            from fanout.verbs.check import check

            return check(request, edge)
        case "exec":
            from fanout.verbs.exec import execute

            return execute(request, edge)
        case "hosts":
            from fanout.verbs.hosts import hosts

            return hosts(request, edge)
        case "why":
            from fanout.verbs.why import why

            return why(request, edge)
        case "demo":
            from fanout.verbs.demo import demo

            return demo(request, edge)
        case _:
            return _of_runs(request, edge)


def _of_runs(request: Request, edge: Edge) -> int:
    """Run a command that works on an existing run."""
    match request.verb:
        case "ps":
            from fanout.verbs.ps import ps

            return ps(request, edge)
        case "attach":
            from fanout.verbs.attach import attach

            return attach(request, edge)
        case "clean":
            from fanout.verbs.clean import clean

            return clean(request, edge)
        case "logs":
            from fanout.verbs.logs import logs

            return logs(request, edge)
        case "report":
            from fanout.verbs.report import report

            return report(request, edge)
        case "stacks":
            from fanout.verbs.stacks import stacks

            return stacks(request, edge)
        case "replay":
            from fanout.verbs.replay import replay

            return replay(request, edge)
        case "lnav":
            from fanout.verbs.lnav import lnav

            return lnav(request, edge)
        case _:
            from fanout.verbs.runs import stop

            return stop(request, edge)


def _columns() -> int:
    """Return the width of the terminal, as shutil does. The import of shutil would add 8 ms to --help."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and len(told) < 5 and int(told):
        return int(told)
    try:
        return os.get_terminal_size(1).columns or 100
    except OSError:
        return 100


def _cwd() -> tuple[str, bool]:
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


def _user() -> str:
    """Return the user's name. In a container, the user id may have no name."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


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
