"""Command to type after a good check: ``fanout run`` with the words of the check. Pure."""

from __future__ import annotations

import shlex

from fanout.model.credentials import is_secret
from fanout.model.option_table import OPTIONS
from fanout.model.request import Request

_PARTIAL = ("--only", "--skip")  # after a part of the checks, it is too early to launch


def build_run_command(request: Request) -> str:
    """Return ``fanout run`` with the words of the check; "" if there is no task, or if it would not work as printed."""
    if not request.task or request.hosts == "-":
        return ""
    own = {flag: row for row in OPTIONS if "check" in row.commands and "run" not in row.commands for flag in row.flags}
    kept: list[str] = []
    words = iter(request.head)
    for word in words:
        flag, equals, _ = word.partition("=")
        if flag in _PARTIAL:
            return ""
        row = own.get(flag)
        if row is None:
            kept.append(word)
        elif row.kind is not bool and not equals:
            next(words, None)
    if any(is_secret(*word.split("=", 1)) for word in kept if "=" in word):
        return ""
    hosts = [request.hosts] if request.hosts else []
    return shlex.join(["fanout", "run", *kept, *hosts, *(["--"] if request.literal else []), *request.task])
