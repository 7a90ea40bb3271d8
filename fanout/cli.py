"""The command: argv and the process come in here, and the exit status goes out; the only place that does either."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from fanout.errors import FanoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fanout.arguments import Request
    from fanout.verbs.common import Edge

HELP = ("-h", "--help", "help")


def entry() -> None:
    """The console script."""
    gc.set_threshold(50_000)  # imports make many objects and next to no garbage: to look for it slows every start
    status = main(sys.argv[1:])
    gc.freeze()  # nor at its end: that would be a tenth of what a short command costs
    sys.exit(status)


def main(argv: Sequence[str]) -> int:
    """Run one command; the exit status. A user's mistake is a sentence, never a traceback."""
    try:
        status = _run(argv)
        sys.stdout.flush()  # here, where a reader that has gone is no surprise
        return status
    except FanoutError as error:
        from fanout.views.out import words

        hint = f"        try:  {error.hint}\n" if error.hint else ""
        words(sys.stderr).write(f"fanout: {error}\n{hint}")
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at its end
        return 141
    except KeyboardInterrupt:
        sys.stderr.write("fanout: interrupted\n")
        return 130


def _run(argv: Sequence[str]) -> int:
    """The command itself. The overview is by far the commonest help: it waits for none of the rest to be loaded."""
    if not argv or argv[0] in HELP:
        from fanout.flags import overview

        sys.stdout.write(overview(_columns()))
        return 0
    from fanout.arguments import Shown, parse

    try:
        return _verb(parse(argv, columns=_columns()))
    except Shown as shown:
        sys.stdout.write(str(shown))
        return 0


def _verb(request: Request) -> int:
    """Each verb's room is imported when it is asked for: --help and errors stay fast."""
    import getpass
    import socket

    from fanout.verbs.common import Edge
    from fanout.views.base import no_symbols
    from fanout.views.out import words

    edge = Edge(
        environ=dict(os.environ),
        cwd=_cwd(),
        stdout=words(sys.stdout),
        stderr=words(sys.stderr, ascii_only=no_symbols(os.environ)),
        stdin=sys.stdin.buffer.read if sys.stdin is not None else bytes,
        line=sys.stdin.readline if sys.stdin is not None else str,
        user=getpass.getuser(),
        machine=socket.gethostname(),
        prefix=sys.prefix if sys.prefix != sys.base_prefix else "",
        columns=_columns(),
        keyboard=sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None,
    )
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
    """The verbs about runs that there are already."""
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
    """How wide the terminal is, as shutil would tell; but to import shutil for it would cost --help 8 ms."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(1).columns or 100
    except OSError:
        return 100


def _cwd() -> str:
    """The working directory by the name that the user knows it by: behind a link, $PWD is what is the same everywhere."""
    named = os.environ.get("PWD", "")
    if named and os.path.isabs(named) and os.path.exists(named) and os.path.samefile(named, "."):
        return named
    return os.getcwd()
