"""Attempt record: how one attempt of a run ended and what followed, as one line of ``attempts.jsonl``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from fanout.model import schema
from fanout.model.frozen import frozen


@frozen
class NextAction:
    """What followed an attempt: a restart, or the end of the run.

    Of a restart: ``changes`` is a phrase, ``used`` counts restarts of the budget, ``fence_until`` and ``until`` are the ends
    of the fence and of the whole wait. Of an end: ``reason`` is for programs. ``advice`` is what restarts would have done.
    """

    action: Literal["restart", "end"]
    failure_class: str = ""
    why: str = ""
    reason: str = ""
    changes: str = ""
    used: int = 0
    wait: float = 0.0  # seconds of the backoff
    fence_until: float | None = None
    until: float | None = None
    hosts: tuple[str, ...] = ()
    replaced: tuple[tuple[str, str], ...] = ()
    dropped: tuple[str, ...] = ()
    advice: str = ""


@frozen
class FirstCause:
    """The first cause of a failure: the id of its signature, its host, and the verdict in one sentence."""

    signature: str = ""
    host: str | None = None
    confidence: str = ""
    text: str = ""


@frozen
class AttemptRecord:
    """One attempt. Times are seconds of the launcher's clock; None: it did not happen. ``steps`` are the first and the highest.

    ``began``: its launcher began to connect. ``started``: the first train.sh started. ``failed``: the first failure was seen.
    """

    attempt: int
    run: str
    hosts: tuple[str, ...]
    exit_code: int
    began: float
    started: float | None
    failed: float | None
    ended: float
    first_step_at: float | None
    last_step_at: float | None
    steps: tuple[int, int] | None
    cause: FirstCause
    lost: tuple[str, ...]
    next: NextAction

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        record = {"v": 1} | asdict(self)
        following = record["next"]
        return record | {"next": {"class": following.pop("failure_class"), **following}}


def parse_attempt_record(line: str | bytes) -> AttemptRecord:
    """Return the record of one line. Raises InvalidValue."""
    value: Mapping[str, Any] = schema.parse_json(line, schema.schema_of(AttemptRecord))
    known = schema.select_fields(AttemptRecord, value)
    following = schema.select_fields(NextAction, known["next"])
    following["failure_class"] = str(known["next"].get("class", ""))
    for name in ("hosts", "dropped"):
        following[name] = tuple(following.get(name, ()))
    following["replaced"] = tuple((old, new) for old, new in following.get("replaced", ()))
    known["next"] = NextAction(**following)
    known["cause"] = FirstCause(**schema.select_fields(FirstCause, known["cause"]))
    known["hosts"], known["lost"] = tuple(known["hosts"]), tuple(known["lost"])
    known["steps"] = tuple(known["steps"]) if known["steps"] is not None else None
    return AttemptRecord(**known)
