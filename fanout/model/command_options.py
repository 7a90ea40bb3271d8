"""Option table, second part: the options of single commands. A new option of one command is a new row here."""

from __future__ import annotations

from fanout.model.option import LAUNCH, MAX_SECONDS, Duration, Option

COMMAND_OPTIONS: tuple[Option, ...] = (
    Option(
        "--deep",
        "also test torch: rendezvous, all-reduce, bandwidth, GPUs under load (takes about a minute)",
        kind=bool, default=False, commands=("check",),
    ),
    Option(
        "--live", "print lines as they arrive, not grouped at the end",
        kind=bool, default=False, commands=("exec",),
    ),
    Option(
        "--explain", "show each line's dialect, and how other launchers read it",
        kind=bool, default=False, commands=("hosts",),
    ),
    Option(
        "--ssh", "show how fanout logs in to each host, and the source of each value",
        kind=bool, default=False, commands=("hosts",),
    ),
    Option("-a --all", "without HOSTS: list all runs that have ended, not only the last 5", kind=bool, default=False, commands=("ps",)),
    Option("--watch", "without HOSTS: refresh the list until Ctrl-C", kind=bool, default=False, commands=("ps",)),
    Option(
        "--sort", "sort hosts by free GPUs, or the highest value first (default: {default}, as in the file)",
        default="file", choices=("file", "free", "gpu", "memory", "temp", "power", "cpu"), commands=("top",),
    ),
    Option("--user", "show only these users (comma-separated)", name="usage_user", metavar="NAMES", commands=("top",)),
    Option("--free", "show only hosts with a free GPU", name="only_free", kind=bool, default=False, commands=("top",)),
    Option("--once", "print the usage once as text, also in a terminal", kind=bool, default=False, commands=("top",)),
    Option("-f --follow", "also print new lines until the run ends", kind=bool, default=False, commands=("logs",)),
    Option("-f --follow", "with --html: rewrite the page until the run ends", kind=bool, default=False, commands=("report",)),
    Option(
        "-n --lines", "print only the last N lines",
        kind=int, default=None, metavar="N", bounds=(0, 1_000_000_000), commands=("logs",),
    ),
    Option("--no-pager", "print a long log without $PAGER", kind=bool, default=False, commands=("logs",)),
    Option("--host", "print only these hosts (comma-separated)", metavar="NAMES", commands=("logs",)),
    Option(
        "--rank --show", "print only these ranks: 0 or 0,8-15 (default: all)",
        metavar="RANKS", commands=("logs",),
    ),
    Option(
        "--since", "print only lines since 10m or 1h30m (ago), 14:30, or '2026-01-31 14:30'",
        metavar="TIME", commands=("logs",),
    ),
    Option(
        "--grep", "print only lines that match the regular expression",
        name="pattern", metavar="RE", commands=("logs",),
    ),
    Option("--hide", "hide lines that match", name="hidden", metavar="RE", commands=("logs",)),
    Option(
        "--fold", "merge lines of many ranks: exact (equal), similar (only numbers differ) (default: {default})",
        name="log_fold", default="off", choices=("off", "exact", "similar"), commands=("logs",),
    ),
    Option(
        "-T --timestamps", "print the time of every line",
        name="times", kind=bool, default=False, commands=("logs",),
    ),
    Option(
        "--files", "print the paths of the raw log files, one per host",
        kind=bool, default=False, commands=("logs",),
    ),
    Option(
        "--full", "print the whole report: reasons, victims, all stacks",
        kind=bool, default=False, commands=("run", "rerun", "report", "attach", "stacks"),
        help_of={"stacks": "print the whole stack of one rank of each group"},
    ),
    Option(
        "--native", "include C and C++ frames; py-spy pauses a rank while it reads them",
        kind=bool, default=False, commands=("stacks",),
    ),
    Option(
        "-y --yes", "do not ask for confirmation",
        kind=bool, default=False, commands=("clean", "init", "sync"),
        help_of={"sync": "let --delete delete over 200 files, or a third"},
    ),
    Option(
        "--sync", "first copy the code in this directory to all hosts; see fanout sync",
        kind=bool, default=False, group=LAUNCH, only="run rerun",
    ),
    Option(
        "-n --dry-run", "show the changes on each host; change nothing",
        kind=bool, default=False, commands=("sync",),
    ),
    Option(
        "--add", "also send this ignored file or directory",
        kind=tuple, default=None, metavar="PATH", commands=("sync",),
    ),
    Option(
        "--delete", "delete what an earlier sync created, and what is not here any more",
        kind=bool, default=False, commands=("sync",),
    ),
    Option("--big", "send more than 500 MB, or files above 100 MB", kind=bool, default=False, commands=("sync",)),
    Option("--match", "take only names that match: 'gpu*,login?'", metavar="GLOBS", commands=("init",)),
    Option(
        "--gpus", "request N GPUs per host (default: the slots of a host; 0: none)",
        kind=int, default=None, metavar="N", bounds=(0, 1024), commands=("export",),
    ),
    Option(
        "--save",
        "let the ranks save before the stop, for up to TIME (default: --save-before of the run, or 10m)",
        kind=Duration, words=("", "auto"), metavar="[TIME]", bounds=(1, MAX_SECONDS), implied="auto", commands=("stop",),
    ),
    Option("--test", "send a test message to NAME", metavar="NAME", commands=("notify",)),
    Option("--html", "write an HTML page to FILE instead", metavar="FILE", commands=("report",)),
    Option(
        "--from", "start at 90, 5m, 1:02:03, or =-30s before the end (default: the start)",
        name="begin", metavar="TIME", commands=("replay",),
    ),
    Option("--at", "start when the run reaches this step", metavar="STEP", commands=("replay",)),
    Option(
        "--speed", "play N times faster, or max (default: 1; max in a pipe)",
        metavar="N", bounds=(0.001, 1_000_000), commands=("replay",),
    ),
    Option(
        "--install", "write the format to lnav's directory of formats",
        kind=bool, default=False, commands=("lnav",),
    ),
    Option(
        "--hosts", "simulate N hosts (default: {default})",
        name="count", kind=int, default=2, metavar="N", bounds=(1, 200), commands=("demo",),
    ),
    Option(
        "--dir", "keep keys and hostfile in DIR while it runs (default: .demo)",
        metavar="DIR", commands=("demo",),
    ),
    Option(
        "--hello", "run a hello task of some seconds instead of training; needs no torch",
        kind=bool, default=False, commands=("demo",),
    ),
    Option(
        "--fail", "show the diagnosis of a failure: oom, hang, import or lost-host; needs no torch",
        metavar="KIND", choices=("oom", "hang", "import", "lost-host"), commands=("demo",),
    ),
    Option(
        "--stay", "simulate the hosts until Ctrl-C; run no training",
        kind=bool, default=False, commands=("demo",),
    ),
    Option(
        "--json",
        "print the diagnosis as one JSON object",
        name="as_json", kind=bool, default=False, commands=("check", "hosts", "ps", "report", "stacks", "top", "why"),
        help_of={
            "check": "print one JSON object",
            "hosts": "print a JSON list, one object per host",
            "ps": "print one JSON list; docs/detached.md explains its keys",
            "stacks": "print every rank's stack as one JSON object",
            "top": "print a JSON list once, one object per host",
        },
    ),
    Option(
        "-v --verbose", "after a failure, also show what is equal",
        kind=bool, default=False, commands=("check",),
    ),
    Option("--strict", "treat warnings as failures", kind=bool, default=False, commands=("check",)),
    Option("--only", "run only these checks or groups (comma-separated)", metavar="NAMES", commands=("check",)),
    Option("--skip", "skip these checks or groups (comma-separated)", metavar="NAMES", commands=("check",)),
    Option("--list", "list all checks", name="listing", kind=bool, default=False, commands=("check",)),
    Option("--explain", "show what a check verifies, why, and the fix", metavar="NAME", commands=("check",)),
)  # fmt: skip
