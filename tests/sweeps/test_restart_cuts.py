"""A run with --max-restarts 3 whose first connection is cut after exactly N bytes: the cut causes no restart.

The script succeeds. So every decision to start another attempt is wrong. ``make cuts`` takes every byte, ``make test`` every
few.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fanout.model.settings import Settings
from fanout.recovery.decision import Decision, EndRun
from fanout.recovery.restart_planner import RestartPlanner
from fanout.remote import connection
from fanout.run.attempt_end import build_attempt_end
from fanout.run.recovery_options import build_recovery_options
from fanout.run.step_progress import StepProgress
from tests.agent.agents import list_processes_of, wait_for
from tests.agent.conftest import linux
from tests.sweeps.cutting import OUTPUT, TRAIN_SH, Cut, Result, WarmHost, list_points, warm_host

pytestmark = [pytest.mark.process, linux]
SCRIPT = TRAIN_SH.replace("exit 7", "exit 0")
RESTARTS = 3
WHOLE = bool(os.environ.get("FANOUT_SWEEP"))
STEP = 1 if WHOLE else 37
AGENT_STEP = 61 if WHOLE else 19999
AT_ONCE = 8


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[WarmHost]:
    with warm_host(tmp_path, script=SCRIPT) as host:
        yield host


def decide_after(result: Result) -> Decision:
    """Return what follows the attempt, as the launcher decides it."""
    planner = RestartPlanner(build_recovery_options(Settings(max_restarts=RESTARTS), None), result.state.order, ())
    planner.record_end(build_attempt_end(0, result.state, result.outcome, None, StepProgress()))
    return planner.decide_after_end(())


def find_false_restarts(warm: WarmHost, cut: Cut) -> list[str]:
    """Return how the run with this cut differs from one attempt that succeeds."""
    result = warm.run_plan(f"restart-{cut.way}-{cut.how}-{cut.after}", cut, max_restarts=RESTARTS)
    if cut.how == "silence" and not result.starts:  # in the login: the host counts as unreachable, and nothing starts
        return [] if result.outcome.hosts[0].verdict == "unreached" else [f"{cut}: nothing was started"]
    seen = {
        "decision": (decide_after(result), EndRun(reason="succeeded")),
        "starts": (result.starts, 1),
        "exit code": (result.outcome.exit_code, 0),
        "log": (result.output, OUTPUT),
        "left": (result.outcome.hosts[0].left, 0),
    }
    return [f"{cut}: {name} is {found!r}" for name, (found, wanted) in seen.items() if found != wanted]


def sweep_cuts(warm: WarmHost, cuts: list[Cut]) -> None:
    """Cut at all points, some at once; fail if one causes a restart or leaves anything."""
    assert len(cuts) >= 5
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [one for wrong in pool.map(lambda cut: find_false_restarts(warm, cut), cuts) for one in wrong]
    assert found == []
    wait_for(lambda: not list(warm.state.glob("*")), "a directory of a run or a claim is left")
    wait_for(lambda: len(list_processes_of(warm.state)) == 1, "an agent or a script is left")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", ["in", "out"])
def test_connection_cut_at_any_byte_causes_no_restart(
    warm: WarmHost, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    passed = warm.run_plan("whole", max_restarts=RESTARTS).passed[way]
    cuts = [Cut(way=way, after=after) for after in list_points(passed, way, step=STEP, agent_step=AGENT_STEP)]
    sweep_cuts(warm, cuts)
    with capsys.disabled():
        print(f"\n{way}: cut at {len(cuts)} points with --max-restarts {RESTARTS}: 0 restarts, one start each")


@pytest.mark.timeout(1800)
def test_connection_that_falls_silent_at_any_byte_causes_no_restart(
    warm: WarmHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SILENT_SECONDS", 0.5)
    passed = warm.run_plan("whole", max_restarts=RESTARTS).passed["in"]
    points = list_points(passed, "in", step=STEP, agent_step=AGENT_STEP)
    cuts = [Cut(way="in", after=after, how="silence") for after in (points[::5] if WHOLE else points)]
    sweep_cuts(warm, cuts)
    with capsys.disabled():
        print(f"\nin: silent after {len(cuts)} points with --max-restarts {RESTARTS}: 0 restarts, one start each")
