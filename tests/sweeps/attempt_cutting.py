"""Two attempts of a run on the warm host; the first connection of attempt 1 is cut while it takes over the claims.

Attempt 0 ends and keeps its claims, as between two attempts. Attempt 1 starts on a connection of its own, and attempt 0 is
released once attempt 1 has started, as ``AttemptLoop`` does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fanout.model.attempt_plan import AttemptPlan, make_attempt_id
from fanout.model.events import CleanedUp, Event
from fanout.model.host_facts import HostFacts
from fanout.model.outcome import RunOutcome
from fanout.model.plan import LaunchPlan
from fanout.model.planner import Planner
from fanout.model.policy import Policy
from fanout.model.settings import Settings
from fanout.model.state import RunState
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.run.session import Session
from tests.remote.nodes import Seen
from tests.remote.ways import build_host
from tests.sweeps.cutting import POLICY, TRAIN_SH, Cut, CutTransport, WarmHost

SCRIPT = TRAIN_SH.replace("ran.$FANOUT_RUN_ID", "ran.$FANOUT_RUN_ID.$FANOUT_ATTEMPT")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """Result of attempt 1, as seen by its launcher and by its directory. ``first`` is the outcome of attempt 0."""

    first: RunOutcome
    outcome: RunOutcome
    output: bytes
    whole: tuple[bool, ...]
    starts: tuple[int, int]  # of attempt 0 and of attempt 1
    passed: dict[str, int]  # bytes on the first connection of attempt 1


class _OpenAttempt:
    """One attempt with its connections."""

    def __init__(self, warm: WarmHost, plan: LaunchPlan, cut: Cut | None) -> None:
        self.transport, self.seen, self.plan = CutTransport(str(warm.directory / "socket"), cut), Seen(), plan
        hosts = [node.host for node in plan.nodes]
        options = ConnectionOptions(connect_timeout=3.0, by="me@pc")
        self.pool = ConnectionPool(hosts, lambda one: self.transport, options, Clock())
        self.session = Session(self.pool, ["a"], [self.seen])
        self.pool.start()
        self.session.connect_hosts()

    def close(self) -> None:
        self.pool.close()
        for channel in self.transport.channels:
            channel.dispose()


class _FirstAttempt:
    """Subscriber of attempt 1 that releases attempt 0 once attempt 1 has started."""

    broken = False

    def __init__(self, attempt: _OpenAttempt, policy: Policy) -> None:
        self._attempt, self._policy, self._is_released = attempt, policy, False

    def __call__(self, event: Event, state: RunState) -> None:
        if all(host.go_at is not None for host in state.all_hosts):
            self.release_claims()

    def release_claims(self) -> None:
        """Release attempt 0, unless that was done before."""
        if not self._is_released:
            self._is_released = True
            self._attempt.session.run_plan(self._policy, self._attempt.plan)


def make_plan(warm: WarmHost, run_id: str, before: tuple[str, int] | None = None) -> LaunchPlan:
    """Return the plan of an attempt with one claim, which no other run of the sweep needs."""
    known = [build_host("a", slots=1)]
    planner = Planner(
        hosts=known,
        task=("task.py",),
        settings=Settings(),
        run_id=run_id,
        directory=str(warm.directory),
        has_script=True,
        attempt=AttemptPlan(number=int(before is not None), max_restarts=3),
    )
    plan = planner.make_plan(HostFacts(master_addr="127.0.0.1"))
    claim = f"port-{before[0] if before is not None else run_id}"
    return replace(plan, nodes=tuple(replace(node, claims=(claim,), before=before) for node in plan.nodes))


def run_two_attempts(warm: WarmHost, run_id: str, cut: Cut | None = None, policy: Policy = POLICY) -> AttemptResult:
    """Run attempt 0, keep its claims, and run attempt 1 with a cut connection."""
    first = _OpenAttempt(warm, make_plan(warm, run_id), None)
    try:
        outcome_before = first.session.run_plan(replace(policy, hold=True), first.plan)
        next_id = make_attempt_id(run_id, 1)
        second = _OpenAttempt(warm, make_plan(warm, next_id, (run_id, 0)), cut)
        holder = _FirstAttempt(first, policy)
        second.session.add_subscriber(holder)
        try:
            second.session.run_plan(replace(policy, hold=True), second.plan)
            holder.release_claims()
            outcome = second.session.run_plan(policy, second.plan)
        finally:
            second.close()
    finally:
        first.close()
    return AttemptResult(
        first=outcome_before,
        outcome=outcome,
        output=second.seen.join_output("a"),
        whole=tuple(event.whole for event in second.seen.events if isinstance(event, CleanedUp)),
        starts=(count_starts(warm, run_id, 0), count_starts(warm, run_id, 1)),
        passed=second.transport.channels[0].passed,
    )


def count_starts(warm: WarmHost, run_id: str, number: int) -> int:
    ran = warm.directory / f"ran.{run_id}.{number}"
    return ran.read_text().count("x") if ran.exists() else 0
