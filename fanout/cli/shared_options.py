"""Flags that several commands share, as groups for argparse: launch, hosts, connection, output."""

from __future__ import annotations

import argparse

from fanout.model.setting_choices import CHOICES

TYPE_CHECKING = False  # as in options.py: typing costs as much as argparse
if TYPE_CHECKING:
    from typing import Any


def add_launch_flags(group: Any) -> None:
    """Add the flags for the script, its directory, its environment and its exports."""
    group.add_argument("-C", "--chdir", metavar="DIR", help="work in DIR on the hosts (default: this directory)")
    group.add_argument("--script", metavar="FILE", help="start FILE on the hosts (default: train.sh, or else torchrun)")
    group.add_argument(
        "--shell", choices=CHOICES["shell"], help="run the script in bash with pipefail, or sh (default: bash)"
    )
    group.add_argument(
        "--venv",
        metavar="DIR|auto|none",
        help="put DIR on PATH; auto: the active one, if the host has it (default: auto)",
    )
    group.add_argument(
        "--setup", metavar="FILE|CMD", help="source FILE, or evaluate CMD, on each host before the script"
    )
    group.add_argument(
        "-E", "--env", action="append", metavar="NAME[=V]", help="export NAME; without =V, with this shell's value"
    )
    group.add_argument(
        "--env-file", action="append", metavar="FILE", help="export the names in a .env file; values are not expanded"
    )
    group.add_argument("--nproc-per-node", type=int, metavar="N", help="start N processes on every host, not slots=")
    group.add_argument("--master-addr", metavar="ADDR", help="set the address of the first host for the other hosts")
    group.add_argument("--master-port", type=int, metavar="PORT", help="set MASTER_PORT (default: 29500)")


def add_selection_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that select a part of the hosts."""
    group = parser.add_argument_group("host selection")
    group.add_argument("-w", "--nodes", default="", metavar="NODES", help="use only these hosts: gpu[01-04],gpu07")
    group.add_argument("-x", "--without", default="", metavar="NODES", help="leave out these hosts: gpu[01-04],gpu07")
    group.add_argument("-i", "--include", default="", metavar="SPEC", help="use only DeepSpeed's worker-0@worker-1:0,2")
    group.add_argument(
        "-e", "--exclude", default="", metavar="SPEC", help="leave out DeepSpeed's worker-0@worker-1:0,2"
    )
    group.add_argument("--nnodes", type=int, metavar="N", help="use only the first N hosts")
    group.add_argument("--tag", default="", metavar="TAG", help="use only hosts with tag=TAG")


def add_connection_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for logins."""
    group = parser.add_argument_group("connection (in addition to ~/.ssh/config)")
    group.add_argument(
        "-f", "--fanout", type=int, metavar="N", help="open at most N connections at a time (default: 64)"
    )
    group.add_argument(
        "-t", "--connect-timeout", type=float, metavar="S", help="fail a login after S seconds (default: 10)"
    )
    group.add_argument("-l", "--user", metavar="USER", help="log in as USER if the hostfile names no user")
    group.add_argument("-F", "--ssh-config", metavar="FILE", help="read FILE instead of ~/.ssh/config")
    group.add_argument(
        "-o",
        "--ssh-option",
        action="append",
        metavar="KEY=VALUE",
        help="set an ssh_config option for every host, as `ssh -o` does",
    )
    group.add_argument(
        "--transport",
        choices=CHOICES["transport"],
        help="connect with ssh (built in), openssh (the ssh program), or local (default: auto)",
    )
    group.add_argument(
        "--accept-new-host-keys",
        action="store_true",
        default=None,
        help="add unknown host keys to known_hosts; refuse changed keys",
    )


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags for the view of a run."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output",
        choices=CHOICES["output"],
        help="choose the view (default: auto, live in a terminal, plain in a pipe)",
    )
    group.add_argument("--json", dest="output", action="store_const", const="json", help="same as --output json")
    group.add_argument("--color", choices=CHOICES["color"], help="print colors (default: auto)")
    group.add_argument(
        "--show",
        metavar="RANKS",
        help="show smart (rank 0 in full, warnings and errors of all ranks), all, or global ranks: 0,8-15 (default: smart)",
    )
    group.add_argument("--grep", metavar="RE", help="show only lines that match, of all ranks")
    group.add_argument("--hide", metavar="RE", help="hide lines that match")
    group.add_argument(
        "--fold",
        choices=CHOICES["fold"],
        help="merge lines of many ranks: exact (equal), similar (only numbers differ) "
        "(default: auto, similar in the live view, off in a pipe)",
    )
    group.add_argument("-T", "--timestamps", action="store_true", default=None, help="print the time of every line")
    group.add_argument(
        "--prefix", metavar="FORMAT", help="print before every line: '{who} {mark} '; also {host} {rank} {time} {stamp}"
    )
    add_metric_flag(group)


def add_metric_flag(parser: argparse._ActionsContainer) -> None:
    """Add the flag that finds the metrics of a run, for the view and for the HTML page."""
    parser.add_argument(
        "--metric",
        metavar="RE",
        help="find metrics with groups named step, total, loss, speed or other names; a single group is the loss",
    )
