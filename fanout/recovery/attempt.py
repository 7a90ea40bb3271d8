"""Attempts as values: how one attempt of a run ended, and the options that decide about the next one."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from fanout.model.frozen import frozen
from fanout.model.option_table import default_of
from fanout.model.restart_rate import RestartRate, parse_restart_rate

Confidence = Literal["high", "medium", "low", "undetermined"]
Requested = Literal["", "interrupted", "time-limit"]


@frozen
class StepRange:
    """Training steps that one attempt reported: the first one and the highest one."""

    first: int
    last: int


@frozen
class AttemptEnd:
    """The end of one attempt.

    ``hosts`` are in node-rank order. ``started_at`` and ``ended_at`` are seconds of one clock. ``signature`` is the id of
    the first cause (a signature, or exit, signal, lost, ...), "" if it is undetermined. ``place`` identifies the error:
    the signature, the exception type, its text without numbers, and the innermost frame of the user's code, without host
    and rank. ``host`` is the host of the cause, ``accused`` all hosts with the same cause. ``code`` is the exit status
    of the script, or of the rank if the script exits with 1 (negative: a signal). ``lost`` hosts have no connection;
    ``rebooted`` ones have a new boot id; ``unclean`` ones still have processes of the run that cannot be ended.
    ``checkpoint`` is the unreadable file that the error names, ``predecessor`` the one before it.
    ``requested`` is why a person or an option ended the run, "" if it failed.
    """

    number: int
    hosts: tuple[str, ...]
    started_at: float
    ended_at: float
    began_at: float | None = None  # when the launcher began to connect
    has_started: bool = True  # train.sh started on a host
    succeeded: bool = False
    requested: Requested = ""
    signature: str = ""
    text: str = ""
    place: str = ""
    checkpoint: str = ""
    predecessor: str = ""
    confidence: Confidence = "undetermined"
    host: str | None = None
    accused: tuple[str, ...] = ()
    code: int | None = None
    lost: tuple[str, ...] = ()
    rebooted: tuple[str, ...] = ()
    unclean: tuple[str, ...] = ()
    steps: StepRange | None = None
    sentence: str = ""  # the verdict in one sentence
    failed_at: float | None = None  # when the first host failed, or the launcher stopped the attempt
    first_step_at: float | None = None
    last_step_at: float | None = None


@frozen
class RecoveryOptions:
    """Options of ``fanout run`` about restarts.

    ``max_restarts`` counts restarts in a row without progress. ``rate`` counts all starts; None is no limit.
    """

    max_restarts: int = default_of("max_restarts")
    min_hosts: int | None = None
    restart_codes: tuple[int, ...] = (75,)
    rate: RestartRate | None = field(default_factory=lambda: parse_restart_rate(default_of("restart_rate")))
    allow_from_scratch: bool = False
    only_hangs: bool = False  # restart only hung attempts (--on-hang restart without --max-restarts)


@frozen
class Fleet:
    """Hosts that the next attempt may use. ``spares`` and ``returned`` are connected, in the order of the hostfile."""

    spares: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()  # hosts of an earlier attempt that answer again and are clean
