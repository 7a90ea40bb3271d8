"""``fanout init``: write a hostfile from the Host entries of ~/.ssh/config, after the user has confirmed the list."""

from __future__ import annotations

import fnmatch
import os
import shlex
from collections.abc import Sequence

from fanout import hostfile
from fanout.model.errors import HostfileError, LauncherError, UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.request import Request
from fanout.remote.transports.ssh_config import find_user_context
from fanout.remote.transports.ssh_config_reader import ConfigReader, UnsupportedLine
from fanout.run.command_context import CommandContext, load_command_context
from fanout.run.process_context import ProcessContext
from fanout.text.sanitize import to_single_line
from fanout.text.units import count_noun

HEADER = """\
# One host per line, in the order of their ranks. After the name: slots=8 for 8 processes
# (default: one per GPU). Users, ports, keys and jump hosts come from {config}.
"""
_CODE_USER = "git"  # an entry for github.com is not a host for training


def run_init(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0 if the file was written, 1 if the user declined. Raises UsageError."""
    context = load_command_context(request, process)
    target = request.given["file"] or "hosts.txt"
    path = os.path.join(process.cwd, target)
    if os.path.lexists(path):
        raise UsageError(
            f"{target} exists, and init never overwrites a file", hint=f"fanout init new-{os.path.basename(target)}"
        )
    names = _list_hosts(context)
    process.stdout.write("".join(f"{name}\n" for name in names))
    process.stdout.flush()
    if not request.given["yes"] and not _is_confirmed(process, names, target):
        process.print_message("nothing was written")
        return ExitStatus.NEGATIVE
    config = context.settings.ssh_config
    header = HEADER.format(config=to_single_line(config or "~/.ssh/config"))
    _write_new_file(path, target, header + "".join(f"{name}\n" for name in names))
    process.print_message(f"wrote {target} with {count_noun(len(names), 'host')}; delete those that should not train")
    flags = f"--ssh-config {shlex.quote(config)} " if config else ""
    process.stderr.write(f"        next:  fanout check {flags}{shlex.quote(target)}\n")
    return ExitStatus.SUCCESS


def _list_hosts(context: CommandContext) -> list[str]:
    """Return the hosts of the configuration that a hostfile may name. Raises UsageError if there are none."""
    settings = context.settings
    shown = settings.ssh_config or "~/.ssh/config"
    try:
        config = ConfigReader(settings.ssh_config, find_user_context(), system=os.devnull, comments=True, lenient=True)
    except UnsupportedLine as error:
        raise UsageError(f"cannot read {error}", hint="write a hostfile: one host per line") from None
    patterns = [word for word in context.request.given["match"].split(",") if word]
    names = [
        name
        for name in config.list_host_names()
        if (not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
        and _find_user(config, name) != _CODE_USER
        and _is_host(name)
    ]
    if not names:
        which = f" that matches {','.join(patterns)}" if patterns else ""
        raise UsageError(
            f"{shown} has no Host entry with a name{which}", hint="write a hostfile by hand: fanout help hostfile"
        )
    return names


def _find_user(config: ConfigReader, name: str) -> str:
    try:
        return config.read_host(name).own.get("user", ("",))[0]
    except UnsupportedLine:
        return ""


def _is_host(name: str) -> bool:
    """Return whether a line of a hostfile may consist of this name."""
    try:
        return len(hostfile.parse_hostfile(name.encode(), file="HOSTS").hosts) == 1
    except HostfileError:
        return False


def _is_confirmed(process: ProcessContext, names: Sequence[str], target: str) -> bool:
    """Ask for confirmation at the terminal. Raises UsageError without a terminal."""
    if process.keyboard is None:
        raise UsageError("init: no terminal to ask for confirmation", hint=f"fanout init --yes {shlex.quote(target)}")
    process.stderr.write(
        f"fanout: write {'this host' if len(names) == 1 else f'these {len(names)} hosts'} to {target}? [y/N] "
    )
    process.stderr.flush()
    return process.line().strip().lower() in ("y", "yes")


def _write_new_file(path: str, target: str, text: str) -> None:
    """Write a file that does not exist yet. Raises LauncherError, also if another process has just created it."""
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise LauncherError(f"cannot write {target}: {error.strerror}", hint="fanout init /tmp/hosts.txt") from None
