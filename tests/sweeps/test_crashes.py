"""An agent's process is killed before any one of its statements: no orphan, no second start, no lie.

Every statement of the keeper, of what makes it, and of the relay is a point; the first process that reaches it dies of
SIGKILL there. ``make crashes`` takes every point, ``make test`` every few.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from fanout.agent import processes
from tests.agent.agents import list_processes_of, wait_for, wait_until_gone
from tests.agent.conftest import linux
from tests.sweeps import crash
from tests.sweeps.cutting import OUTPUT, POLICY, Cut, Result, WarmHost, warm_host

pytestmark = [pytest.mark.process, linux]
WHOLE = bool(os.environ.get("FANOUT_SWEEP"))
STEP = 1 if WHOLE else 19
AT_ONCE = 8
BEGIN = "echo x >> ran.$FANOUT_RUN_ID; setsid sleep 1009 & echo one; echo two >&2; "
ENDS = BEGIN + "exit 7\n"
STAYS = BEGIN + "trap 'exit 0' TERM; sleep 1009 & wait\n"


def _find_false_reports(result: Result, code: int) -> list[str]:
    """Return false reports; ``code`` is the status of a run without a fault."""
    status = result.outcome.exit_code
    lies = []
    if result.starts > 1:
        lies.append(f"started {result.starts} times")
    if status not in (code, 125, 255, 137):  # 137: PDEATHSIG was quicker than the keeper's own record
        lies.append(f"exit {status}")
    own = (
        status == code and status != 124
    )  # the time limit is the launcher's own action, independent of the host's result
    if own and (result.starts != 1 or (True in result.whole and not result.output.startswith(OUTPUT))):
        lies.append(f"exit {status} with {result.starts} starts and the log {result.output!r}")
    if not (OUTPUT.startswith(result.output) or result.output.startswith(OUTPUT)):
        lies.append(f"the log {result.output!r}")
    if result.outcome.hosts[0].left != 0 and result.starts and result.outcome.hosts[0].verdict != "lost":
        lies.append(f"left {result.outcome.hosts[0].left}")
    return lies


def _crash_everywhere(warm: WarmHost, code: int, time_limit: float | None) -> int:
    policy = replace(POLICY, time_limit=time_limit, start_timeout=5.0, lease=5.0)
    places = {number: place for number, place in crash.list_points().items() if number % STEP == 0}

    def crash_once(number: int) -> list[str]:
        run = f"crash-{number}"
        lies = _find_false_reports(warm.run_plan(run, Cut(trap=number), policy), code)
        wait_for(lambda: not processes.find_marked([f"FANOUT_RUN_ID={run}"]), f"{places[number]}: a process is left")
        return [f"killed at {places[number]} ({number}): {lie}" for lie in lies]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [lie for lies in pool.map(crash_once, places) for lie in lies]
    assert found == []
    wait_until_gone(lambda: [path.name for path in warm.state.glob("*")], "directories of runs and claims")
    wait_until_gone(lambda: list_processes_of(warm.state)[1:], "agents and scripts")
    return len(places)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("script", "code", "limit"), [(ENDS, 7, None), (STAYS, 124, 0.3)], ids=["ends", "stopped"])
def test_an_agent_killed_at_any_statement_leaves_nothing_and_no_false_report(
    tmp_path: Path, script: str, code: int, limit: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script that ends by itself, and one that is stopped; both leave a process in a session of its own."""
    with warm_host(tmp_path, script=script, traps=True) as warm:
        count = _crash_everywhere(warm, code, limit)
    with capsys.disabled():
        print(f"\nkilled at {count} statements: at most one start, no lie, nothing left")
