"""Room in this process for as many open files as its connections take: made before any host is touched, or refused."""

from __future__ import annotations

import resource

from fanout.errors import LauncherError

_OURSELVES = 48  # the terminal, the record, the guardian, libraries
_LOGS, _MOST_LOGS = 17, 128  # of a host: one a rank and one for all; more are not kept open at once
_BY_LIBRARY, _BY_PROGRAM = 3, 6  # of a connection: a socket and what a login reads; pipes to an ssh process


def needed(hosts: int, *, by_program: bool) -> int:
    """How many files may be open at once. ``by_program``: each connection is an ssh process."""
    return _OURSELVES + min(_LOGS * hosts, _MOST_LOGS) + (_BY_PROGRAM if by_program else _BY_LIBRARY) * hosts


def make_room(hosts: int, *, by_program: bool) -> None:
    """Raise this process's limit as far as it takes. Raises LauncherError where that is not allowed."""
    count = needed(hosts, by_program=by_program)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise LauncherError(
            f"{hosts} host{'s' * (hosts != 1)} need up to {count} open files here, and this shell allows {hard} (ulimit -Hn)",
            hint=f"sudo prlimit --pid $$ --nofile={count}:{count}   (this shell; for good: nofile in /etc/security/limits.conf)",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
