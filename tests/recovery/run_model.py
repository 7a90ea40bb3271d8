"""Model of a run for property tests: hosts fail, vanish and return in any order; the pure policy decides what follows.

The model knows when the last rank of each attempt really ended on each host. The policy knows only what a launcher knows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fanout.recovery import fence
from fanout.recovery.attempt import AttemptEnd, RecoveryOptions, StepRange
from fanout.recovery.classify import classify_failure
from fanout.recovery.decision import Decision, EndRun, Restart
from fanout.recovery.failure_classes import FAILURE_CLASSES, REQUESTED_RESTART
from fanout.recovery.progress import rate_progress
from fanout.recovery.restart_planner import RestartPlanner
from tests.recovery.attempts import HOSTS

SIGNATURES = sorted({signature for row in FAILURE_CLASSES for signature in row.signatures} | {"", "exit", "invented"})
MANY_STARTS = 40
LEASE, GRACE = 60.0, 40.0
STOP_SECONDS = 4.0  # a keeper needs less than the margin of the fence to see the end of its lease and of its processes


def draw_fault(random: Random) -> dict[str, Any]:
    """Return how an attempt ends. Hosts are indexes into its roster."""
    first = random.randint(1, 300)
    return {
        "signature": random.choice(SIGNATURES),
        "confidence": random.choice(["high", "medium", "low", "undetermined"]),
        "host": random.choice([None, *range(6)]),
        "lost": _draw_indexes(random, 2),
        "unclean": _draw_indexes(random, random.randint(0, 1)),
        "rebooted": _draw_indexes(random, random.randint(0, 1)),
        "code": random.choice([1, 2, 75, 75, -9, -11, 137, None]),
        "place": random.choice(["", "a", "b"]),
        "steps": random.choice([None, StepRange(first=first, last=first + random.randint(0, 500))]),
        "seconds": random.choice([1.0, 400.0, 5000.0]),
        "requested": random.choice(["", *[""] * 30, "interrupted"]),
        "silence": random.uniform(0.0, 20.0),  # between the last heartbeat of a lost host and the end of its connection
        "lives": random.uniform(0.0, LEASE + GRACE + STOP_SECONDS),  # after that heartbeat
    }


def _draw_indexes(random: Random, most: int) -> list[int]:
    return random.sample(range(6), random.randint(0, most))


@dataclass(kw_only=True)
class ModelRun:
    """What happened in one modelled run. ``began`` and ``ended`` are times of each attempt that started."""

    options: RecoveryOptions
    planner: RestartPlanner
    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)  # when the last rank really ended, on any host
    rosters: list[tuple[str, ...]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)  # refused starts before each attempt but the first
    decision: Decision | None = None
    broken: set[str] = field(default_factory=set)  # hosts that a check refused, or that have processes left
    reused: set[str] = field(default_factory=set)  # broken hosts that took part in a later attempt

    def count_restarts_without_progress(self) -> int:
        """Return the longest row of counted restarts without progress, by the words of the documentation."""
        longest = row = weak = 0
        history = self.planner.history
        for number in range(1, len(self.began)):
            before = history[number - 1]
            progress = rate_progress(history[:number])
            if progress == "strong":
                row = weak = 0
            if classify_failure(self.options, before) is REQUESTED_RESTART:
                continue
            if progress == "weak" and weak < 2:
                weak += 1
                continue
            row += 1
            longest = max(longest, row)
        return longest


def _choose_names(names: Collection[str], indexes: Collection[int]) -> tuple[str, ...]:
    members = tuple(names)
    return tuple(dict.fromkeys(members[index % len(members)] for index in sorted(indexes))) if members else ()


def run_model(options: RecoveryOptions, spares: int, random: Random, *, most: int) -> ModelRun:
    """Play a run whose attempts end with random faults, one after the other; leave it after ``most`` attempts."""
    names = tuple(f"spare{number}" for number in range(spares))
    planner = RestartPlanner(options, HOSTS, names)
    run = ModelRun(options=options, planner=planner)
    hosts, clock = HOSTS, 1000.0
    for number in range(most):
        fault = draw_fault(random)
        run.began.append(clock)
        run.rosters.append(hosts)
        run.reused |= run.broken & set(hosts)
        end = _end_attempt(number, hosts, clock, fault)
        run.broken |= set(end.unclean)
        disconnected = dict.fromkeys(end.lost, end.ended_at)
        lives = [seen - fault["silence"] + fault["lives"] for seen in disconnected.values()]
        run.ended.append(max([end.ended_at, *lives]))
        planner.record_end(end)
        decision = planner.decide_after_end(_choose_names(planner.list_wanted(), _draw_indexes(random, 6)))
        run.decision = decision
        if isinstance(decision, EndRun):
            break
        ends = [fence.compute_fence_end(seen, lease=LEASE, grace=GRACE) for seen in disconnected.values()]
        clock = fence.plan_wait(end.ended_at, decision.wait_seconds, ends)[1]
        clock = _start_attempt(run, number + 1, clock, random)
        if isinstance(run.decision, EndRun):
            break
        hosts = run.decision.roster.hosts
    return run


def _end_attempt(number: int, hosts: tuple[str, ...], began: float, fault: dict[str, Any]) -> AttemptEnd:
    lost = _choose_names(hosts, fault["lost"])
    return AttemptEnd(
        number=number,
        hosts=hosts,
        started_at=began,
        ended_at=began + fault["seconds"],
        requested=fault["requested"],
        signature=fault["signature"],
        confidence=fault["confidence"],
        host=None if fault["host"] is None else hosts[fault["host"] % len(hosts)],
        lost=lost,
        unclean=tuple(name for name in _choose_names(hosts, fault["unclean"]) if name not in lost),
        rebooted=tuple(name for name in _choose_names(hosts, fault["rebooted"]) if name not in lost),
        code=fault["code"],
        place=fault["place"],
        steps=fault["steps"],
    )


def _start_attempt(run: ModelRun, number: int, clock: float, random: Random) -> float:
    """Play the starts that a check or a host refuses; return when the attempt starts."""
    refused, refuses = 0, random.random() < 0.3
    while refuses and refused < MANY_STARTS:
        decision = run.decision
        assert isinstance(decision, Restart)
        hosts = decision.roster.hosts
        faulty, absent = (
            set(_choose_names(hosts, _draw_indexes(random, 1))),
            set(_choose_names(hosts, _draw_indexes(random, 2))),
        )
        if not faulty | absent:
            break
        refused += 1
        run.broken |= faulty - absent
        run.decision = run.planner.decide_after_refusal(
            number,
            hosts,
            out=faulty - absent,
            away=absent,
            answering=_choose_names(run.planner.list_away(), _draw_indexes(random, 6)),
            used=decision.used,
        )
        clock += 1.0
        if isinstance(run.decision, EndRun):
            break
    run.refused.append(refused)
    return clock + 1.0
