"""Order of the words of a command line: HOSTS TASK [ARG…]. Recognizes swapped words and words of the wrong kind.

Each error has the command line that was probably meant. With ``--`` before TASK, no word counts as a mistake.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Sequence

from fanout import hostfile
from fanout.model.errors import UsageError
from fanout.model.request import Request
from fanout.model.task_words import get_module, is_config_name, is_program_name
from fanout.text.suggest import find_nearest

USUAL_HOSTFILES = ("hosts.txt", "hostfile", "hostfile.txt", "hosts", "hosts.yaml", "nodes.txt", "machines.txt")
_HOSTFILE_NAME = re.compile(
    r"hosts?\b|host_?(?:file|list)|machine_?(?:file|s\b)|node_?(?:file|list|s\b)|inventory", re.IGNORECASE
)


def resolve_hosts(request: Request, default: str) -> Request:
    """Return the request with its HOSTS, or with the default of fanout.toml. Raises UsageError, HostfileError."""
    if not request.literal and request.task and request.verb in ("run", "check"):
        _check_order(request, default)
    if request.hosts or default:
        return dataclasses.replace(request, hosts=request.hosts or default)
    dashes = ["--"] if request.verb == "exec" else []
    hint = _build_command(request, [_guess_hostfile(), *dashes, *request.task])
    raise UsageError(f"{request.verb}: HOSTS is missing", hint=hint)


def suggest_task(request: Request, directory: str) -> str:
    """Return a hint for a task that does not exist: the nearest file, or where to look."""
    folder, name = os.path.split(request.task[0])
    try:
        names = [entry.name for entry in os.scandir(os.path.join(directory, folder)) if entry.is_file()]
    except OSError:
        names = []
    near = find_nearest(name, names, likeness=0.7)
    if near:
        return _build_command(request, [request.hosts, os.path.join(folder, near[0]), *request.task[1:]])
    return "run fanout in the project's directory, or give its path with --chdir"


def _check_order(request: Request, default: str) -> None:
    """Raise UsageError if the words are certainly in another order than HOSTS TASK [ARG…]."""
    hosts, task = request.hosts, request.task
    if get_module(task):
        if hosts and (kind := hostfile.describe_task_file(hosts)):
            meant = _build_command(request, [_guess_hostfile(), *task])
            raise UsageError(f"{hosts}: {kind}; HOSTS comes first, then -m MODULE", hint=meant)
        return
    kind = hostfile.describe_task_file(hosts) if hosts else ""
    if kind:
        raise UsageError(f"{hosts}: {kind}; HOSTS comes first, then TASK", hint=_correct_order(request))
    if _is_hostfile(task[0]) and (hosts or not default):
        raise UsageError(f"{task[0]} is a hostfile, but it stands where TASK belongs", hint=_correct_order(request))
    if not hosts and len(task) > 1 and _is_hostfile(task[1]):
        raise UsageError(f"{task[1]} is a hostfile, and HOSTS comes first, then TASK", hint=_correct_order(request))
    program = next((word for word in task[1:] if is_program_name(word) and os.path.isfile(word)), "")
    if program and is_config_name(task[0]):
        raise UsageError(f"{task[0]} is a config, and TASK comes before its config", hint=_correct_order(request))
    if program and hosts and not os.path.exists(task[0]) and not is_program_name(task[0]):
        at = task.index(program)
        meant = _build_command(request, [",".join((hosts, *task[:at])), *task[at:]])
        raise UsageError(f"{task[0]} is not a task; the names in a list of hosts have commas between them", hint=meant)


def _correct_order(request: Request) -> str:
    """Return the command line with the hostfile first, then the program, then all other words."""
    words = [word for word in (request.hosts, *request.task) if word]
    hosts = next((word for word in words if _is_hostfile(word)), "")
    if not hosts and request.hosts and not hostfile.describe_task_file(request.hosts):
        hosts = request.hosts
    program = next((word for word in words if is_program_name(word)), "task.py")
    rest = [word for word in words if word not in (hosts, program)]
    return _build_command(request, [hosts or _guess_hostfile(), program, *rest])


def _is_hostfile(word: str) -> bool:
    """Return whether the word is the path of a file with the name of a hostfile."""
    named = _HOSTFILE_NAME.search(os.path.basename(word)) is not None and not is_program_name(word)
    return named and os.path.isfile(word) and not hostfile.describe_task_file(word)


def _guess_hostfile() -> str:
    """Return the hostfile in the current directory with a usual name, or an example of such a name."""
    return next((name for name in USUAL_HOSTFILES if os.path.isfile(name)), USUAL_HOSTFILES[0])


def _build_command(request: Request, words: Sequence[str]) -> str:
    return shlex.join(["fanout", request.verb, *request.head, *words])
