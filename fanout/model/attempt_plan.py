"""Attempt plan: the part of a launch plan that depends on the attempt, and the ids of attempts.

A run with ``--max-restarts`` has one run id. On hosts each attempt is a run of its own: its id is the run id, and from
attempt 1 on a dot and the number of the attempt. So no process and no log of one attempt can be taken for another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from fanout.model.frozen import frozen
from fanout.model.option_table import default_of
from fanout.model.run_info import AttemptInfo


def make_attempt_id(run_id: str, number: int) -> str:
    """Return the id of an attempt: ``RUN`` for attempt 0, then ``RUN.1``, ``RUN.2``, …."""
    return f"{run_id}.{number}" if number else run_id


def split_attempt_id(attempt_id: str) -> tuple[str, int]:
    """Return (run id, number of the attempt)."""
    run_id, dot, number = attempt_id.rpartition(".")
    return (run_id, int(number)) if dot and number.isascii() and number.isdigit() else (attempt_id, 0)


@frozen
class AttemptPlan:
    """What distinguishes the attempt from the other attempts of its run.

    ``used`` and ``cause`` are those of its AttemptInfo. ``reason`` is the failure class of the attempt before, "" for attempt 0. ``before`` is host -> (id, node rank) of the
    attempt whose claims the host still holds. ``holds``: a host keeps its claims after the end, for the next attempt.
    """

    number: int = 0
    max_restarts: int = default_of("max_restarts")
    used: int = 0
    cause: str = ""
    reason: str = ""
    before: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def info(self) -> AttemptInfo:
        """Return what the views and the record show about the attempt."""
        return AttemptInfo(number=self.number, max_restarts=self.max_restarts, used=self.used, cause=self.cause)

    @property
    def holds(self) -> bool:
        return self.max_restarts > 0

    def build_exports(self) -> dict[str, str]:
        """Return the exports about the attempt, except those that mark the processes of the run."""
        exports = {"FANOUT_MAX_RESTARTS": str(self.max_restarts)}
        return exports | ({"FANOUT_RESTART_REASON": self.reason} if self.reason else {})


FIRST_ATTEMPT = AttemptPlan()
