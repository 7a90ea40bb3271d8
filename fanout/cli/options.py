"""Flags of every command, for argparse. The names are those of other launchers; groups follow the purpose."""

from __future__ import annotations

import argparse
from functools import partial

from fanout.cli.shared_options import (
    add_connection_flags,
    add_launch_flags,
    add_metric_flag,
    add_output_flags,
    add_selection_flags,
)
from fanout.model.setting_choices import CHOICES

TYPE_CHECKING = False  # --help pays for argparse and for nothing else: typing and dataclasses cost as much again
if TYPE_CHECKING:
    from typing import Any


def parser_options(columns: int) -> dict[str, Any]:
    """Return parser options with a fixed width: argparse makes a formatter per flag, and each would query the terminal."""
    return {"formatter_class": partial(argparse.RawDescriptionHelpFormatter, width=columns - 2), "allow_abbrev": False}


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "All words after TASK are arguments of the task: fanout run hosts.txt task.py cfg.yaml --train.lr 1e-4.\n"
        "After TASK, fanout warns about its own flags and refuses --dry-run; put -- before TASK to allow them."
    )
    parser.add_argument("hosts", metavar="HOSTS")
    parser.add_argument("task", metavar="TASK")
    start = parser.add_argument_group("launch")
    start.add_argument("-n", "--dry-run", action="store_true", help="print what each host would run; contact no host")
    start.add_argument(
        "-d", "--detach", action="store_true", help="return once all hosts have started; reattach with fanout attach"
    )
    add_launch_flags(start)
    start.add_argument(
        "--force", action="store_true", default=None, help="launch even if a check failed; let --env set reserved names"
    )
    start.add_argument("--skip-check", action="store_true", default=None, help="do not check the hosts first")
    _add_timeout_flags(parser.add_argument_group("timeouts and stop"))
    add_selection_flags(parser)
    add_connection_flags(parser)
    add_output_flags(parser)
    shown = parser.add_argument_group("record")
    shown.add_argument("--log-dir", metavar="DIR", help="record runs in DIR (default: $XDG_STATE_HOME/fanout/runs)")
    shown.add_argument(
        "--keep",
        metavar="BOUNDS",
        help="keep runs up to this age, number and size, or all (default: 30d,100,5GB; with --log-dir: all)",
    )
    shown.add_argument(
        "--rank-logs",
        choices=CHOICES["rank_logs"],
        help="write one stream and file per rank under torchrun (auto), or one per host (off) (default: auto)",
    )
    shown.add_argument(
        "--stacks",
        choices=CHOICES["stacks"],
        help="let fanout stacks read the stacks of ranks (auto), or leave PYTHONPATH unchanged (off) (default: auto)",
    )
    shown.add_argument(
        "--spool-limit", metavar="SIZE", help="keep at most SIZE of log on each host's disk; 0: no limit (default: 4G)"
    )
    shown.add_argument("--signatures", metavar="FILE", help="add your own error signatures (docs/diagnosis.md)")


def _add_timeout_flags(group: Any) -> None:
    group.add_argument(
        "--grace", type=float, metavar="S", help="kill S seconds after TERM (default: 40; torchrun itself waits 30)"
    )
    group.add_argument(
        "--lease",
        type=float,
        metavar="S",
        help="stop a host's part of the run after S seconds without contact with the launcher (default: 300)",
    )
    group.add_argument(
        "--last-words", type=float, metavar="S", help="stop the other hosts S seconds after a failure (default: 3)"
    )
    group.add_argument(
        "--start-timeout", type=float, metavar="S", help="stop if a host has not started after S seconds (default: 120)"
    )
    group.add_argument(
        "--time-limit", type=float, metavar="S", help="stop after S seconds with exit status 124 (default: 0, no limit)"
    )
    group.add_argument(
        "--on-early-exit",
        choices=CHOICES["on_early_exit"],
        help="if a host exits with 0 while others run, wait for the others or stop them (default: wait)",
    )
    group.add_argument(
        "--hang-timeout",
        metavar="S|auto",
        help="treat the run as hung after S seconds without output or stack changes (default: off)",
    )
    group.add_argument(
        "--on-hang",
        choices=CHOICES["on_hang"],
        help="if the run hangs, report the stack of every rank; also stop, or stop and restart it (default: report)",
    )
    group.add_argument(
        "--on-hangup",
        choices=CHOICES["on_hangup"],
        help="if the terminal closes, stop the run as on SIGTERM, or keep it running detached (default: stop)",
    )


def _add_check_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("hosts", metavar="HOSTS", nargs="?", default="")
    parser.add_argument("task", metavar="TASK", nargs="?")
    parser.add_argument(
        "--deep",
        action="store_true",
        help="also test torch: rendezvous, all-reduce, bandwidth, GPUs under load (takes about a minute)",
    )
    parser.add_argument("--json", dest="as_json", action="store_true", help="print one JSON object")
    parser.add_argument("--strict", action="store_true", help="treat warnings as failures")
    parser.add_argument("--only", metavar="NAMES", default="", help="run only these checks or groups (comma-separated)")
    parser.add_argument("--skip", metavar="NAMES", default="", help="skip these checks or groups (comma-separated)")
    parser.add_argument("--list", dest="listing", action="store_true", help="list all checks")
    parser.add_argument("--explain", metavar="NAME", default="", help="show what a check verifies, why, and the fix")
    add_launch_flags(parser.add_argument_group("launch"))
    add_selection_flags(parser)
    add_connection_flags(parser)


def _add_hosts_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("hosts", metavar="HOSTS")
    parser.add_argument(
        "--explain", action="store_true", help="show each line's dialect, and how other launchers read it"
    )
    parser.add_argument(
        "--ssh", action="store_true", help="show how fanout logs in to each host, and the source of each value"
    )
    parser.add_argument("--json", dest="as_json", action="store_true", help="print a JSON list, one object per host")
    parser.add_argument("--nproc-per-node", type=int, metavar="N", help="start N processes on every host, not slots=")
    add_selection_flags(parser)
    add_connection_flags(parser)


def _add_exec_flags(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "The login shell of each host runs the command line, so quote what the hosts must expand. fanout merges stdout\n"
        "and stderr. It does not supervise the command: Ctrl-C closes the connections."
    )
    parser.add_argument("hosts", metavar="HOSTS")
    parser.add_argument("--live", action="store_true", help="print lines as they arrive, not grouped at the end")
    add_selection_flags(parser)
    add_connection_flags(parser)


def _add_logs_flags(parser: argparse.ArgumentParser) -> None:
    _add_run_argument(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="also print new lines until the run ends")
    parser.add_argument("-n", "--lines", type=int, metavar="N", help="print only the last N lines")
    parser.add_argument("--host", metavar="NAMES", default="", help="print only these hosts (comma-separated)")
    parser.add_argument(
        "--rank", "--show", metavar="RANKS", default="", help="print only these ranks: 0 or 0,8-15 (default: all)"
    )
    parser.add_argument(
        "--since", metavar="TIME", default="", help="print only lines since 10m (ago), 14:30, or '2026-01-31 14:30'"
    )
    parser.add_argument(
        "--grep", dest="pattern", metavar="RE", default="", help="print only lines that match the regular expression"
    )
    parser.add_argument("--hide", dest="hidden", metavar="RE", default="", help="hide lines that match")
    parser.add_argument("-T", "--timestamps", dest="times", action="store_true", help="print the time of every line")
    parser.add_argument("--files", action="store_true", help="print the paths of the raw log files, one per host")


def _add_ps_flags(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "With HOSTS, fanout asks each host for your runs, from whichever machine they were launched. Without HOSTS, it\n"
        "lists the runs that were launched from this machine. Exit status: 0, or 255 if a host could not be asked."
    )
    parser.add_argument("hosts", metavar="HOSTS", nargs="?", default="")
    parser.add_argument("-a", "--all", action="store_true", help="without HOSTS: also list runs that have ended")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print one JSON list")
    parser.add_argument("--log-dir", metavar="DIR", help="find runs in DIR (default: $XDG_STATE_HOME/fanout/runs)")
    add_selection_flags(parser)
    add_connection_flags(parser)


def _add_attach_flags(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "On the machine that launched the run, attach follows the record. If the launcher died, a new one replaces it.\n"
        "On any other machine, give HOSTS: fanout asks them for the run and for its log from the first byte.\n"
        "Ctrl-C leaves the run running. Exit status: that of the run, or 130 after Ctrl-C."
    )
    _add_run_argument(parser, "the active run")
    _add_optional_hosts(parser)
    parser.add_argument(
        "--hang-timeout",
        metavar="S|auto",
        help="with HOSTS: report a hang after S seconds, as run does (default: off; without HOSTS the launcher reports)",
    )
    add_output_flags(parser)


def _add_stop_flags(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "If the launcher is alive, stop asks it to end the run; a second stop makes it kill the run at once. Otherwise,\n"
        "or with HOSTS on a machine without a record of the run, stop ends the run on the hosts itself.\n"
        "Exit status: 0 nothing is left, 255 not verified on every host."
    )
    _add_run_argument(parser, "the active run")
    _add_optional_hosts(parser)
    parser.add_argument("--grace", type=float, metavar="S", help="with HOSTS: kill S seconds after TERM (default: 40)")


def _add_optional_hosts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "hosts", metavar="HOSTS", nargs="?", default="", help="ask these hosts, if there is no record here"
    )
    add_selection_flags(parser)
    add_connection_flags(parser)


def _add_clean_flags(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "clean lists orphan processes that carry a run's mark, and records of runs without a keeper. After a yes it kills\n"
        "the processes, deletes the records, and checks again. It never touches active runs: use fanout stop.\n"
        "Exit status: 0 nothing is left, 1 something is left, 255 a host could not be asked."
    )
    parser.add_argument("hosts", metavar="HOSTS")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask for confirmation")
    add_selection_flags(parser)
    add_connection_flags(parser)


def _add_run_argument(parser: argparse.ArgumentParser, default: str = "the latest") -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", default="", help=f"run id, or part of it (default: {default})")
    parser.add_argument("--log-dir", metavar="DIR", help="find runs in DIR (default: $XDG_STATE_HOME/fanout/runs)")


def _add_report_flags(parser: argparse.ArgumentParser) -> None:
    _add_run_argument(parser)
    parser.add_argument("--html", metavar="FILE", default="", help="write an HTML page to FILE instead")
    add_metric_flag(parser)
    _add_diagnosis_flags(parser)


def _add_replay_flags(parser: argparse.ArgumentParser) -> None:
    _add_run_argument(parser)
    parser.add_argument(
        "--at", metavar="T", default="0", help="start at 90, 5m, 1:02:03, or =-30s before the end (default: 0)"
    )
    parser.add_argument(
        "--speed", metavar="N", default="", help="play N times faster, or max (default: 1; max in a pipe)"
    )
    add_output_flags(parser)


def _add_lnav_flags(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "After --install: lnav ~/.local/state/fanout/runs/RUN/events.jsonl, or the files in logs/ beside it."
    )
    parser.add_argument("--install", action="store_true", help="write the format to lnav's directory of formats")


def _add_stacks_flags(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "fanout asks each rank with a signal; the training code does not notice, and the rank goes on. If a rank does not\n"
        "react, fanout uses py-spy, if the host has it. Exit status: 0 if every host answered, 1 if not, 255 unreachable."
    )
    _add_run_argument(parser, "the active run")
    parser.add_argument("--full", action="store_true", help="print the whole stack of one rank of each group")
    parser.add_argument(
        "--native", action="store_true", help="include C and C++ frames; py-spy pauses a rank while it reads them"
    )
    parser.add_argument(
        "--json", dest="as_json", action="store_true", help="print every rank's stack as one JSON object"
    )


def _add_why_flags(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "why reads plain, .gz, .bz2, .xz and .zst files. It takes hosts and ranks from file names, line labels and\n"
        "torchrun's reports, and the order from the times in the logs. Exit status: 0 a cause is named, 1 undetermined."
    )
    parser.add_argument("task", metavar="FILE|DIR|-", nargs="*")
    _add_diagnosis_flags(parser)


def _add_diagnosis_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", dest="as_json", action="store_true", help="print the diagnosis as one JSON object")
    parser.add_argument("--signatures", metavar="FILE", help="add your own error signatures (docs/diagnosis.md)")


def _add_demo_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hosts", dest="count", type=int, default=2, metavar="N", help="simulate N hosts (default: 2)")
    parser.add_argument(
        "--dir", default=".demo", metavar="DIR", help="keep keys and hostfile in DIR while it runs (default: .demo)"
    )
    parser.add_argument("--stay", action="store_true", help="simulate the hosts until Ctrl-C; run no training")
    add_output_flags(parser)


COMMANDS: dict[str, tuple[str, str, Any]] = {
    "check": (
        "[FLAGS] HOSTS [TASK [ARG…]]",
        "Check that the hosts can train; print each problem and its fix.",
        _add_check_flags,
    ),
    "run": ("[FLAGS] HOSTS TASK [ARG…]", "Check, launch on all hosts, watch, stop together, diagnose.", _add_run_flags),
    "exec": ("[FLAGS] HOSTS -- COMMAND…", "Run a command on all hosts; print equal output once.", _add_exec_flags),
    "hosts": ("[FLAGS] HOSTS", "Show how fanout reads a hostfile.", _add_hosts_flags),
    "ps": ("[FLAGS] [HOSTS]", "List runs, on HOSTS or launched from this machine.", _add_ps_flags),
    "attach": ("[FLAGS] [RUN] [HOSTS]", "Return to a run and follow it to its end.", _add_attach_flags),
    "logs": ("[FLAGS] [RUN]", "Print the log lines of a run, also while it is active.", _add_logs_flags),
    "report": ("[FLAGS] [RUN]", "Show the report and diagnosis of a run.", _add_report_flags),
    "replay": ("[FLAGS] [RUN]", "Play back a recorded run in the live view.", _add_replay_flags),
    "stacks": ("[FLAGS] [RUN]", "Show the current Python stack of every rank, grouped.", _add_stacks_flags),
    "why": ("[FLAGS] FILE|DIR|-…", "Diagnose a failed run of any launcher from its logs.", _add_why_flags),
    "lnav": ("[--install]", "Print or install the format that lets the log viewer lnav read runs.", _add_lnav_flags),
    "stop": (
        "[FLAGS] [RUN] [HOSTS]",
        "Stop a run on all hosts, verify that it is gone, report what is left.",
        _add_stop_flags,
    ),
    "clean": (
        "[FLAGS] HOSTS",
        "List leftovers of finished runs on hosts, and remove them after confirmation.",
        _add_clean_flags,
    ),
    "demo": (
        "[FLAGS]",
        "Simulate hosts on this machine and train on them; needs no root, no ssh server.",
        _add_demo_flags,
    ),
}
