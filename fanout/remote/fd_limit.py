"""File descriptor limit: raise it for the connections of a run before any host is contacted, or refuse the run."""

from __future__ import annotations

import resource

from fanout.model.errors import LauncherError

_FOR_LAUNCHER = 48  # the terminal, the record, the guardian, libraries
_LOGS, _MOST_LOGS = 17, 128  # log files per host (one per rank, one for all), and the most kept open at once


def count_needed_files(hosts: int, per_connection: int) -> int:
    """Return how many files may be open at once. ``per_connection`` is ``TransportSelector.open_files``."""
    return _FOR_LAUNCHER + min(_LOGS * hosts, _MOST_LOGS) + per_connection * hosts


def raise_file_limit(hosts: int, per_connection: int) -> None:
    """Raise this process's limit of open files as needed. Raises LauncherError if the hard limit is too low."""
    count = count_needed_files(hosts, per_connection)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise LauncherError(
            f"{hosts} host{'s' * (hosts != 1)} need up to {count} open files here, but this shell allows {hard} (ulimit -Hn)",
            hint=f"sudo prlimit --pid $$ --nofile={count}:{count}   # this shell only; permanently: nofile in /etc/security/limits.conf",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
