"""Context that the commands share: hosts, how to reach them, and the directory of recorded runs."""

from __future__ import annotations

import os

from fanout import hostfile
from fanout.model.errors import UsageError
from fanout.model.hosts import Host, HostFile
from fanout.model.request import Request
from fanout.model.settings import Settings
from fanout.model.suggested_commands import CommandBuilder
from fanout.remote.transports.select import TransportSelector
from fanout.run.process_context import ProcessContext


def read_hosts(request: Request, settings: Settings, process: ProcessContext) -> tuple[HostFile, tuple[Host, ...]]:
    """Return the hostfile and the selected hosts, in rank order. Raises HostfileError, UsageError."""
    if not request.hosts:
        raise UsageError(f"{request.verb}: HOSTS is missing", hint=f"fanout {request.verb} --help")
    file = hostfile.read_host_list(request.hosts, stdin=process.stdin, environ=process.environ)
    filters = request.filters
    hosts = hostfile.select_hosts(
        file,
        include=filters.include,
        exclude=filters.exclude,
        nodes=filters.nodes,
        without=filters.without,
        nnodes=filters.nnodes,
        tag=filters.tag,
        nproc_per_node=settings.nproc_per_node,
    )
    return file, hosts


def build_selector(settings: Settings, process: ProcessContext) -> TransportSelector:
    path = settings.ssh_config  # ssh takes "none" for no file
    if path not in ("", "none") and (os.path.isdir(path) or not os.path.exists(path)):
        raise UsageError(f"--ssh-config {path}: no such file")
    return TransportSelector(settings, user=process.user, agent="SSH_AUTH_SOCK" in process.environ)


def build_command_for_hosts(request: Request, settings: Settings, verb: str, *words: str) -> str:
    """Return a fanout command for the same HOSTS and the same ssh configuration."""
    made = CommandBuilder(ssh_config=settings.ssh_config, ssh_option=settings.ssh_option, source=request.hosts)
    return made.build_fanout_command(verb, *words, hosts=True)


def find_runs_directory(settings: Settings, process: ProcessContext) -> str:
    """Return the directory of recorded runs. Raises UsageError if the user has no home directory."""
    if settings.log_dir:
        return os.path.abspath(os.path.join(process.cwd, settings.log_dir))
    state = process.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    if state.startswith("~"):
        raise UsageError(
            f"no directory for the record of runs: {process.user} has no home directory, and HOME is not set",
            hint="set HOME, or choose a directory with --log-dir DIR",
        )
    return os.path.abspath(os.path.join(process.cwd, state, "fanout", "runs"))
