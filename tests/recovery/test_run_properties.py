"""Properties of every run, for any order of faults: no two attempts at once, no restart beyond the budget, and an end.

Each property is tested twice: it holds for the policy, and a policy without the rule behind it violates the property.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import tests.recovery.run_model
from fanout.recovery import decision, fence, restart_planner
from fanout.recovery.attempt import RecoveryOptions
from fanout.recovery.budget import Budget
from fanout.recovery.decision import EndRun
from fanout.recovery.failure_classes import REQUESTED_RESTART
from tests.recovery.attempts import HOSTS
from tests.recovery.run_model import ModelRun, draw_fault, run_model

MANY = 60  # more attempts than any run of these tests may have


def find_violations(run: ModelRun) -> list[str]:
    """Return the names of the violated properties."""
    overlaps = any(began <= max(run.ended[:number]) for number, began in enumerate(run.began) if number)
    most = run.options.max_restarts
    wrong = {
        "two attempts at once": overlaps,
        "over the budget": run.count_restarts_without_progress() > most,
        "no end": not isinstance(run.decision, EndRun) or len(run.began) > 10 * most + 1,
        "endless starts": any(number > len(HOSTS) + 4 for number in run.refused),
        "a host twice": any(len(set(roster)) < len(roster) for roster in run.rosters),
        "too few hosts": any(len(roster) < (run.options.min_hosts or len(HOSTS)) for roster in run.rosters),
        "a broken host": bool(run.reused),
    }
    return [name for name, is_violated in wrong.items() if is_violated]


def check_any_run(*names: str) -> Callable[[], None]:
    """Return the test that no run violates a property; with ``names``, one of these properties."""

    @settings(deadline=None, derandomize=True, max_examples=300, database=None, phases=[Phase.generate])
    @given(
        seed=st.integers(0, 2**32),
        max_restarts=st.integers(0, 5),
        min_hosts=st.none() | st.integers(1, 4),
        spares=st.integers(0, 4),
        scratch=st.booleans(),
    )
    def check_run(seed: int, max_restarts: int, min_hosts: int | None, spares: int, scratch: bool) -> None:
        options = RecoveryOptions(max_restarts=max_restarts, min_hosts=min_hosts, allow_from_scratch=scratch, rate=None)
        violated = find_violations(run_model(options, spares, Random(seed), most=MANY))
        assert not [name for name in violated if not names or name in names]

    return check_run


def test_no_order_of_faults_violates_a_property() -> None:
    check_any_run()()


def test_without_the_fence_two_attempts_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "compute_fence_end", lambda seen, *, lease, grace: seen)
    with pytest.raises(AssertionError, match="two attempts at once"):
        check_any_run("two attempts at once")()


def test_with_a_fence_of_the_lease_alone_two_attempts_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "compute_fence_end", lambda seen, *, lease, grace: seen + lease)
    with pytest.raises(AssertionError, match="two attempts at once"):
        check_any_run("two attempts at once")()


def test_without_the_count_of_restarts_a_run_exceeds_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "count_restarts", lambda options, history: Budget(used=1, same_class=1, waits=0))
    with pytest.raises(AssertionError, match="over the budget"):
        check_any_run("over the budget")()


def test_without_the_limit_of_all_restarts_a_run_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "is_total_exceeded", lambda options, history: False)
    monkeypatch.setattr(decision, "classify_failure", lambda options, attempt: REQUESTED_RESTART)
    quiet: dict[str, Any] = {"requested": "", "lost": (), "unclean": (), "code": 75, "steps": None}
    monkeypatch.setattr(tests.recovery.run_model, "draw_fault", lambda random: draw_fault(random) | quiet)
    options = RecoveryOptions(max_restarts=1, rate=None)
    runs = [run_model(options, 4, Random(seed), most=MANY) for seed in range(100)]
    assert any("no end" in find_violations(run) for run in runs)


def test_if_hosts_that_are_away_are_tried_at_once_the_starts_do_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart_planner.RestartPlanner, "list_away", lambda self: self._names)
    with pytest.raises(AssertionError, match=r"endless starts|a broken host"):
        check_any_run("endless starts", "a broken host")()
