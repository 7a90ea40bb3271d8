"""Run information: what is known of a run before it starts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from fanout.model.frozen import frozen


@frozen
class AttemptInfo:
    """Which attempt of a run this is.

    ``used`` counts the restarts of --max-restarts so far, 0 if the last restart was not counted. ``cause`` is why the
    attempt before ended, "" for attempt 0.
    """

    number: int = 0
    max_restarts: int = 0
    used: int = 0
    cause: str = ""

    def describe(self) -> str:
        """Return ``attempt 1 of 3``; "" for the first attempt."""
        return describe_attempt(self.number, self.max_restarts, self.used)


FIRST_ATTEMPT_INFO = AttemptInfo()


def describe_attempt(number: int, max_restarts: int | None, used: int | None) -> str:
    """Return the attempt with its place in the budget of --max-restarts: ``attempt 1 of 3``; "" for the first attempt.

    After progress the budget begins again. Then the number of the restart differs from that of the attempt.
    """
    if not number:
        return ""
    if not max_restarts or used is None:
        return f"attempt {number}"
    if used == number <= max_restarts:
        return f"attempt {number} of {max_restarts}"
    return f"attempt {number} (restart {used} of {max_restarts})" if used else f"attempt {number} (not counted)"


@frozen
class RunInfo:
    """Facts about a run before it starts. ``ranks`` maps host -> (node rank, number of processes or None).

    ``name`` is what the user calls the run, "" without --name. ``lease`` and ``connect_timeout`` are in seconds, 0 if they
    are not known.
    """

    run_id: str
    title: str
    name: str = ""
    hosts: tuple[str, ...]
    log_dir: str | None = None
    attempt: AttemptInfo = FIRST_ATTEMPT_INFO
    ranks: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    lease: float = 0.0
    connect_timeout: float = 0.0
