"""The text of ``fanout --help``: what fanout does, its commands and its exit statuses."""

from __future__ import annotations

import argparse

from fanout.cli.command_table import COMMANDS
from fanout.cli.help_format import parser_options

PROLOGUE = """\
fanout launches multi-host PyTorch training over SSH. It checks the hosts, starts train.sh on all of them with the
right exports, and shows their logs as one stream. If one host fails, it stops all hosts and reports the first cause.

  fanout check hosts.txt                     check that the hosts can train; print each problem and its fix
  fanout run hosts.txt task.py cfg.yaml      check, launch on all hosts (ranks in file order), watch, diagnose
  fanout run --dry-run hosts.txt task.py cfg.yaml      print what each host would run; contact no host
"""

EPILOGUE = """\
HOSTS is a hostfile with one host per line (`gpu01 slots=8`), or a list of hosts: gpu01,gpu02 or 'gpu[01-16]'.
fanout also reads DeepSpeed, MPI, pdsh, Slurm and Ansible files. `fanout hosts HOSTS` shows how it reads HOSTS.
Most flags can also be set in fanout.toml (connect-timeout = 5) or in the environment (FANOUT_CONNECT_TIMEOUT=5).

Exit status of run: 0 if all hosts succeed, else the exit code of the first failing host (128+n for signal n);
2 usage error or invalid file, 124 time limit, 125 fanout failed or the check refused the run, 130/143 interrupted,
255 a host was unreachable or lost. Exit status of check: 0 ok, 1 a check failed, 255 a host was unreachable.
"""


def format_overview(columns: int) -> str:
    """Return the text of ``fanout --help``."""
    top = argparse.ArgumentParser(
        prog="fanout", usage="fanout COMMAND …", description=PROLOGUE, epilog=EPILOGUE, **parser_options(columns)
    )
    top.add_argument("-V", "--version", action="store_true", help="print the version")
    commands = top.add_argument_group("commands")
    for command in COMMANDS.values():
        commands.add_argument(command.name, nargs="?", help=command.about)
    return top.format_help()
