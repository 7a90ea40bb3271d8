"""Flags that several verbs share, as groups for argparse: what would run, which hosts, how to connect, what you see."""

from __future__ import annotations

import argparse

from fanout.choices import CHOICES

TYPE_CHECKING = False  # as in flags.py: typing costs as much as argparse
if TYPE_CHECKING:
    from typing import Any


def what(group: Any) -> None:
    """What is started on the hosts, where, and with which exports."""
    group.add_argument("-C", "--chdir", metavar="DIR", help="work directory on the hosts (this one)")
    group.add_argument("--script", metavar="FILE", help="what to start there (train.sh; torchrun where there is none)")
    group.add_argument("--shell", choices=CHOICES["shell"], help="bash (with pipefail) or sh, as the docs write it")
    group.add_argument(
        "--venv", metavar="DIR|auto|none", help="environment to put on PATH (auto: the active one, where a host has it)"
    )
    group.add_argument("--setup", metavar="FILE|CMD", help="sourced (or evaluated) on each host before the script")
    group.add_argument(
        "-E", "--env", action="append", metavar="NAME[=V]", help="export to all hosts; without =V, this shell's value"
    )
    group.add_argument(
        "--env-file", action="append", metavar="FILE", help="exports from a .env file; values are not expanded"
    )
    group.add_argument("--nproc-per-node", type=int, metavar="N", help="processes on every host, whatever slots= says")
    group.add_argument("--master-addr", metavar="ADDR", help="address of the first host as the others reach it")
    group.add_argument("--master-port", type=int, metavar="PORT", help="29500")


def choosing(parser: argparse.ArgumentParser) -> None:
    """A part of the hosts."""
    group = parser.add_argument_group("which hosts")
    group.add_argument("-w", "--nodes", default="", metavar="NODES", help="only these: gpu[01-04],gpu07")
    group.add_argument("-x", "--without", default="", metavar="NODES", help="not these")
    group.add_argument("-i", "--include", default="", metavar="SPEC", help="DeepSpeed's worker-0@worker-1:0,2")
    group.add_argument("-e", "--exclude", default="", metavar="SPEC", help="likewise")
    group.add_argument("--nnodes", type=int, metavar="N", help="the first N")
    group.add_argument("--tag", default="", metavar="TAG", help="only hosts with this tag=")


def connecting(parser: argparse.ArgumentParser) -> None:
    """Logins."""
    group = parser.add_argument_group("how to connect (on top of ~/.ssh/config)")
    group.add_argument("-f", "--fanout", type=int, metavar="N", help="connections being opened at a time (64)")
    group.add_argument("-t", "--connect-timeout", type=float, metavar="S", help="seconds for a whole login (10)")
    group.add_argument("-l", "--user", metavar="USER", help="login name where the hostfile has none")
    group.add_argument("-F", "--ssh-config", metavar="FILE", help="instead of ~/.ssh/config")
    group.add_argument(
        "-o",
        "--ssh-option",
        action="append",
        metavar="KEY=VALUE",
        help="an option of ssh_config for every host, as `ssh -o` takes it",
    )
    group.add_argument(
        "--transport", choices=CHOICES["transport"], help="auto, ssh (built in), openssh (the ssh program), local"
    )
    group.add_argument(
        "--accept-new-host-keys",
        action="store_true",
        default=None,
        help="add unknown host keys to known_hosts; never changed ones",
    )


def showing(parser: argparse.ArgumentParser) -> None:
    """The view of a run."""
    group = parser.add_argument_group("what you see")
    group.add_argument("--output", choices=CHOICES["output"], help="live in a terminal, plain in a pipe, json")
    group.add_argument("--json", dest="output", action="store_const", const="json", help="the same as --output json")
    group.add_argument("--color", choices=CHOICES["color"], help="auto, always, never")
    group.add_argument(
        "--show",
        metavar="RANKS",
        help="smart (default): rank 0 in full, warnings and errors of all; all; or global ranks: 0,8-15",
    )
    group.add_argument("--grep", metavar="RE", help="of all ranks, only lines in which this is found")
    group.add_argument("--hide", metavar="RE", help="no lines in which this is found")
    group.add_argument(
        "--fold",
        choices=CHOICES["fold"],
        help="lines of many ranks as one: exact (equal), similar (that differ in numbers only), off",
    )
    group.add_argument("-T", "--timestamps", action="store_true", default=None, help="the time before every line")
    group.add_argument(
        "--prefix", metavar="FORMAT", help="before every line: '{who} {mark} '; also {host} {rank} {time} {stamp}"
    )
    metric(group)


def metric(parser: argparse._ActionsContainer) -> None:
    """Where the figures of a run are, for the view and for the page."""
    parser.add_argument(
        "--metric",
        metavar="RE",
        help="where figures are: groups named step, total, loss, speed, or as you like; or one, the loss",
    )
