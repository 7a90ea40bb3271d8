"""The flags of every verb, for argparse: names that other launchers have taught people, grouped by what they decide."""

from __future__ import annotations

import argparse
from functools import partial

from fanout.choices import CHOICES
from fanout.groups import choosing, connecting, metric, showing, what

TYPE_CHECKING = False  # --help pays for argparse and for nothing else: typing and dataclasses cost as much again
if TYPE_CHECKING:
    from typing import Any

PROLOGUE = """\
fanout launches multi-host PyTorch training over ssh: it checks the machines, starts train.sh on all of them with the
right exports, shows their logs as one stream, stops everything when one part fails, and says what went wrong where.

  fanout check hosts.txt                     would it train? if not: which host, why, what to type
  fanout run hosts.txt task.py cfg.yaml      rank by host order, launch, watch, stop, explain
  fanout run --dry-run hosts.txt task.py cfg.yaml      print what each host would run, touch nothing
"""

EPILOGUE = """\
HOSTS is a file of hosts (one a line: `gpu01 slots=8`; DeepSpeed, MPI, pdsh, Slurm and Ansible files are read too), or
hosts themselves: gpu01,gpu02 or 'gpu[01-16]'. `fanout hosts HOSTS` shows what was understood.
Every flag can also stand in fanout.toml (as connect-timeout = 5) or in the environment (FANOUT_CONNECT_TIMEOUT=5).

exit status of run: 0 all hosts ended well; otherwise the first failing host's own code, 128+n for its signal n;
2 usage or a bad file, 124 time limit, 125 fanout's own failure or refused by the check, 130/143 interrupted,
255 a host could not be reached or was lost. check: 0 fine, 1 a check failed, 255 a host could not be reached.
"""


def shape(columns: int) -> dict[str, Any]:
    """A width that is given: argparse makes a formatter for every flag, and each would ask for the terminal's anew."""
    return {"formatter_class": partial(argparse.RawDescriptionHelpFormatter, width=columns - 2), "allow_abbrev": False}


def overview(columns: int) -> str:
    """What ``fanout --help`` prints."""
    top = argparse.ArgumentParser(
        prog="fanout", usage="fanout COMMAND …", description=PROLOGUE, epilog=EPILOGUE, **shape(columns)
    )
    top.add_argument("-V", "--version", action="store_true", help="print the version")
    commands = top.add_argument_group("commands")
    for name, (_, about, _) in VERBS.items():
        commands.add_argument(name, nargs="?", help=about)
    return top.format_help()


def _run(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Everything after TASK belongs to the task: fanout run hosts.txt task.py cfg.yaml --train.lr 1e-4. A flag of\n"
        "fanout's there is reported, and --dry-run is refused; -- before TASK silences this."
    )
    parser.add_argument("hosts", metavar="HOSTS")
    parser.add_argument("task", metavar="TASK")
    start = parser.add_argument_group("what runs")
    start.add_argument("-n", "--dry-run", action="store_true", help="print what each host would run, touch nothing")
    start.add_argument(
        "-d", "--detach", action="store_true", help="return once all hosts have started; fanout attach comes back"
    )
    what(start)
    start.add_argument(
        "--force",
        action="store_true",
        default=None,
        help="launch although a check failed; let --env set reserved names",
    )
    start.add_argument("--skip-check", action="store_true", default=None, help="do not check first")
    _ending(parser.add_argument_group("how it ends"))
    choosing(parser)
    connecting(parser)
    showing(parser)
    shown = parser.add_argument_group("record")
    shown.add_argument("--log-dir", metavar="DIR", help="where runs are recorded ($XDG_STATE_HOME/fanout/runs)")
    shown.add_argument(
        "--keep",
        metavar="BOUNDS",
        help="recorded runs to keep: age, number, size, or all (30d,100,5GB; with --log-dir: all)",
    )
    shown.add_argument(
        "--rank-logs",
        choices=CHOICES["rank_logs"],
        help="auto: under torchrun one stream and file a rank; off: one a host",
    )
    shown.add_argument(
        "--stacks",
        choices=CHOICES["stacks"],
        help="auto: ranks can be asked where they stand (fanout stacks); off: nothing is added to PYTHONPATH",
    )
    shown.add_argument(
        "--spool-limit", metavar="SIZE", help="most of a run's log that a host's disk keeps (4G; 0: no limit)"
    )
    shown.add_argument("--signatures", metavar="FILE", help="error messages of your own (docs/diagnosis.md)")


def _ending(group: Any) -> None:
    group.add_argument("--grace", type=float, metavar="S", help="seconds from TERM to KILL (40; torchrun's own is 30)")
    group.add_argument("--lease", type=float, metavar="S", help="seconds that a host runs on without us (300)")
    group.add_argument(
        "--last-words", type=float, metavar="S", help="seconds from the first failure to TERM for the others (3)"
    )
    group.add_argument(
        "--start-timeout", type=float, metavar="S", help="seconds until every host must have started (120)"
    )
    group.add_argument(
        "--time-limit", type=float, metavar="S", help="stop after S seconds; exit status 124 (0: no limit)"
    )
    group.add_argument(
        "--on-early-exit",
        choices=CHOICES["on_early_exit"],
        help="a host that ends with 0 while others run: wait (default) or stop",
    )
    group.add_argument(
        "--hang-timeout", metavar="S|auto", help="no line and nothing that moves for so long is a hang (off)"
    )
    group.add_argument(
        "--on-hang",
        choices=CHOICES["on_hang"],
        help="report (default): say where every rank stands; stop: and end the run; restart: and begin it again",
    )
    group.add_argument(
        "--on-hangup",
        choices=CHOICES["on_hangup"],
        help="the terminal closes: stop (default) as for SIGTERM, or keep: go on detached",
    )


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("hosts", metavar="HOSTS", nargs="?", default="")
    parser.add_argument("task", metavar="TASK", nargs="?")
    parser.add_argument(
        "--deep",
        action="store_true",
        help="also torch itself: rendezvous, sums, bandwidth, GPUs at work (a minute or so)",
    )
    parser.add_argument("--json", dest="as_json", action="store_true", help="one JSON object")
    parser.add_argument("--strict", action="store_true", help="warnings count as failures")
    parser.add_argument("--only", metavar="NAMES", default="", help="only these checks or groups (comma-separated)")
    parser.add_argument("--skip", metavar="NAMES", default="", help="leave these out")
    parser.add_argument("--list", dest="listing", action="store_true", help="list all checks")
    parser.add_argument("--explain", metavar="NAME", default="", help="what a check verifies, why, and the fix")
    what(parser.add_argument_group("what would run"))
    choosing(parser)
    connecting(parser)


def _hosts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("hosts", metavar="HOSTS")
    parser.add_argument("--explain", action="store_true", help="each line's dialect, and how other launchers read it")
    parser.add_argument(
        "--ssh", action="store_true", help="how fanout logs in to each host, value by value, and where each comes from"
    )
    parser.add_argument("--json", dest="as_json", action="store_true", help="one object a host")
    parser.add_argument("--nproc-per-node", type=int, metavar="N", help="processes on every host, whatever slots= says")
    choosing(parser)
    connecting(parser)


def _exec(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "The command line goes to each host's login shell as it is: quote what the hosts shall expand. Its stdout and\n"
        "stderr come as one stream. Nothing supervises it: Ctrl-C ends the connections."
    )
    parser.add_argument("hosts", metavar="HOSTS")
    parser.add_argument("--live", action="store_true", help="lines as they come, not folded at the end")
    choosing(parser)
    connecting(parser)


def _logs(parser: argparse.ArgumentParser) -> None:
    _named_run(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="and what still comes, until the run ends")
    parser.add_argument("-n", "--lines", type=int, metavar="N", help="only the last N")
    parser.add_argument("--host", metavar="NAMES", default="", help="only these hosts (comma-separated)")
    parser.add_argument(
        "--rank", "--show", metavar="RANKS", default="", help="only these global ranks: 0 or 0,8-15 (all)"
    )
    parser.add_argument(
        "--since", metavar="TIME", default="", help="only what came since then: 10m (ago), 14:30, '2026-01-31 14:30'"
    )
    parser.add_argument(
        "--grep", dest="pattern", metavar="RE", default="", help="only lines in which this expression is found"
    )
    parser.add_argument("--hide", dest="hidden", metavar="RE", default="", help="no lines in which this is found")
    parser.add_argument("-T", "--timestamps", dest="times", action="store_true", help="the time before every line")
    parser.add_argument("--files", action="store_true", help="print where the raw files are, one a host")


def _ps(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "With HOSTS, each host is asked which of your runs it has, whoever launched them from wherever; without, the\n"
        "runs that were launched from this machine are listed. exit status: 0, 255 where a host could not be asked."
    )
    parser.add_argument("hosts", metavar="HOSTS", nargs="?", default="")
    parser.add_argument("-a", "--all", action="store_true", help="without HOSTS: runs that have ended, too")
    parser.add_argument("--json", dest="as_json", action="store_true", help="one JSON list")
    parser.add_argument("--log-dir", metavar="DIR", help="where runs are recorded ($XDG_STATE_HOME/fanout/runs)")
    choosing(parser)
    connecting(parser)


def _attach(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Where the run was launched, its record is followed; if its launcher has died, a process takes its place first.\n"
        "On any other machine, say HOSTS: they are asked for the run and for its log from the first byte on.\n"
        "Ctrl-C leaves, the run goes on. exit status: that of the run; 130 where you left."
    )
    _named_run(parser, "the one that goes on")
    _hosts_too(parser)
    parser.add_argument(
        "--hang-timeout",
        metavar="S|auto",
        help="with HOSTS: tell of a hang, as run does (the launcher tells by itself)",
    )
    showing(parser)


def _stop(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "A launcher that lives is told to end the run in order, once more to kill at once; otherwise, or with HOSTS from\n"
        "a machine that has no record of it, the hosts are. exit status: 0 nothing is left, 255 not known everywhere."
    )
    _named_run(parser, "the one that goes on")
    _hosts_too(parser)
    parser.add_argument("--grace", type=float, metavar="S", help="seconds from TERM to KILL (40); with HOSTS only")


def _hosts_too(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "hosts", metavar="HOSTS", nargs="?", default="", help="on a machine without a record of the run"
    )
    choosing(parser)
    connecting(parser)


def _clean(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Listed are processes that carry a run's mark, and records, of runs that nobody keeps any more; these are ended\n"
        "and removed after a yes, and it is looked again. Runs that go on are left alone: fanout stop.\n"
        "exit status: 0 nothing is left, 1 something is, 255 a host could not be asked."
    )
    parser.add_argument("hosts", metavar="HOSTS")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")
    choosing(parser)
    connecting(parser)


def _named_run(parser: argparse.ArgumentParser, default: str = "the latest") -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", default="", help=f"a run's id, or a part of it ({default})")
    parser.add_argument("--log-dir", metavar="DIR", help="where runs are recorded ($XDG_STATE_HOME/fanout/runs)")


def _report(parser: argparse.ArgumentParser) -> None:
    _named_run(parser)
    parser.add_argument("--html", metavar="FILE", default="", help="write a page to look at in a browser instead")
    metric(parser)
    _judging(parser)


def _replay(parser: argparse.ArgumentParser) -> None:
    _named_run(parser)
    parser.add_argument("--at", metavar="T", default="0", help="begin there: 90, 5m, 1:02:03; =-30s: before the end")
    parser.add_argument("--speed", metavar="N", default="", help="times faster, or max (1; max in a pipe)")
    showing(parser)


def _lnav(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Afterwards: lnav ~/.local/state/fanout/runs/RUN/events.jsonl, and the files in its logs/."
    parser.add_argument("--install", action="store_true", help="put the format where lnav looks for formats")


def _stacks(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Ranks are asked by a signal of which the program knows nothing, and go on; one that does not listen to it is "
        "looked at by py-spy, where its host has that. Exit status: 0 all told."
    )
    _named_run(parser, "the one that goes on")
    parser.add_argument("--full", action="store_true", help="the whole stack of one rank of each group")
    parser.add_argument(
        "--native", action="store_true", help="with C and C++ frames, by py-spy, which holds a rank meanwhile"
    )
    parser.add_argument("--json", dest="as_json", action="store_true", help="every rank's stack as one JSON object")


def _why(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Plain, .gz, .bz2, .xz or .zst. Hosts and ranks are taken from names, labels before lines and torchrun's reports, the\n"
        "order from times in the logs. exit status: 0 a cause is named, 1 undetermined."
    )
    parser.add_argument("task", metavar="FILE|DIR|-", nargs="*")
    _judging(parser)


def _judging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", dest="as_json", action="store_true", help="the verdict as one JSON object")
    parser.add_argument("--signatures", metavar="FILE", help="error messages of your own (docs/diagnosis.md)")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hosts", dest="count", type=int, default=2, metavar="N", help="how many hosts to play (2)")
    parser.add_argument(
        "--dir", default=".demo", metavar="DIR", help="where its keys and hostfile live while it runs (.demo)"
    )
    parser.add_argument("--stay", action="store_true", help="play the hosts until Ctrl-C, run nothing")
    showing(parser)


VERBS: dict[str, tuple[str, str, Any]] = {
    "check": ("[FLAGS] HOSTS [TASK [ARG…]]", "Would it train? If not: which host, why, and what to type.", _check),
    "run": ("[FLAGS] HOSTS TASK [ARG…]", "Check, launch on all hosts, watch, stop together, explain.", _run),
    "exec": ("[FLAGS] HOSTS -- COMMAND…", "Run any command on all hosts; equal output is shown once.", _exec),
    "hosts": ("[FLAGS] HOSTS", "Show what was understood of a hostfile.", _hosts),
    "ps": ("[FLAGS] [HOSTS]", "Which runs there are: on hosts, or launched from here.", _ps),
    "attach": ("[FLAGS] [RUN] [HOSTS]", "Come back to a run, and stay to its end.", _attach),
    "logs": ("[FLAGS] [RUN]", "The lines of a run, also while it goes on.", _logs),
    "report": ("[FLAGS] [RUN]", "What became of a run, and why it failed, once more.", _report),
    "replay": ("[FLAGS] [RUN]", "A recorded run in the view of the run, at any pace, from any moment.", _replay),
    "stacks": ("[FLAGS] [RUN]", "Where every rank stands now, folded: who waits in what, and who does not.", _stacks),
    "why": ("[FLAGS] FILE|DIR|-…", "Why a run of any launcher failed, from its logs.", _why),
    "lnav": ("[--install]", "Teach the log viewer lnav to read runs: prints its format, or installs it.", _lnav),
    "stop": ("[FLAGS] [RUN] [HOSTS]", "End a run from elsewhere: stop it, look, say what is left.", _stop),
    "clean": ("[FLAGS] HOSTS", "What ended runs left on hosts: list it, and after a yes remove it.", _clean),
    "demo": ("[FLAGS]", "Play hosts on this machine and train on them: no root, no ssh server needed.", _demo),
}
