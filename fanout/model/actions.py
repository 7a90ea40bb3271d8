"""Actions: everything that fanout can do in a run, as frozen values.

The policy returns actions. When an action was carried out, it comes back as the event ``ActionSent``, so that the record of
a run is complete.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from fanout.model.frozen import frozen

#: Reasons of a Stop. ``rolled-back``: a host undid Prepare by itself; ``rendezvous``: it can never complete.
StopReason: TypeAlias = Literal[
    "interrupted", "stop-command", "time-limit", "hang", "host-failed", "early-exit", "start-timeout", "rolled-back",
    "rendezvous", "launcher-died",
]  # fmt: skip


@frozen
class Prepare:
    """Send the host its part of the plan. The host takes its locks and checks paths, but starts nothing."""

    host: str


@frozen
class Go:
    """Start train.sh."""

    host: str


@frozen
class Stop:
    """Send SIGTERM, wait ``grace`` seconds for the whole process tree, then send SIGKILL. Before Go it undoes Prepare.

    ``reason`` is for programs, ``why`` is the same as a text for people.
    """

    host: str
    grace: float
    reason: StopReason
    why: str


@frozen
class Save:
    """Send ``signal`` (``USR1``) to the ranks that handle it, so that they save and end by themselves. A Stop follows later.

    Unless it ``sends``, the host only reports which ranks handle the signal. ``reason`` and ``why`` are those of the Stop.
    """

    host: str
    signal: str
    reason: StopReason
    why: str
    sends: bool = True


@frozen
class Kill:
    """Send SIGKILL at once."""

    host: str


@frozen
class Release:
    """Delete the run's directory on the host and exit: the launcher has all bytes."""

    host: str


@frozen
class Abandon:
    """Stop waiting for this host; the event HostLost follows."""

    host: str
    why: str


@frozen
class Inspect:
    """Ask the host about the run: ``what`` is ``stacks`` or ``aftermath``. Answered with the same ``ask`` follows."""

    host: str
    ask: int
    what: str
    since: float = 3600.0  # seconds since the start of the run; the host reports nothing that is older


Action: TypeAlias = Prepare | Go | Save | Stop | Kill | Release | Abandon | Inspect
