"""The first connection of attempt 1 is cut after exactly N bytes while it takes over the claims of attempt 0.

The script of attempt 1 runs once at every point, its exit status and its log are whole, and no claim is left. ``make cuts``
takes every third byte of the exchange after the login, ``make test`` every few.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fanout.agent import bundle
from tests.agent.agents import list_processes_of, wait_until_gone
from tests.agent.conftest import linux
from tests.sweeps.attempt_cutting import SCRIPT, AttemptResult, run_two_attempts
from tests.sweeps.cutting import OUTPUT, Cut, WarmHost, warm_host

pytestmark = [pytest.mark.process, linux]
STEP = 3 if os.environ.get("FANOUT_SWEEP") else 89
AT_ONCE = 4


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[WarmHost]:
    with warm_host(tmp_path, script=SCRIPT) as host:
        yield host


def list_points(whole: AttemptResult, way: str) -> list[int]:
    """Return where to cut: after the source of the agent, which test_cuts.py covers."""
    begin = len(bundle.pack_agent()) if way == "out" else 0
    return list(range(begin + 1, whole.passed[way] + 1, STEP))


def find_broken_promises(warm: WarmHost, cut: Cut) -> list[str]:
    """Return the promises that a run with this cut did not keep."""
    result = run_two_attempts(warm, f"attempts-{cut.way}-{cut.after}", cut)
    promised = {
        "starts": (result.starts, (1, 1)),
        "exit codes": ((result.first.exit_code, result.outcome.exit_code), (7, 7)),
        "log": (result.output, OUTPUT),
        "whole": (set(result.whole), {True}),
        "left": (result.outcome.hosts[0].left, 0),
    }
    return [f"{cut}: {name} is {seen!r}" for name, (seen, wanted) in promised.items() if seen != wanted]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", ["in", "out"])
def test_cut_connection_of_the_next_attempt_costs_nothing(
    warm: WarmHost, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both ends see the end of the connection; what was on its way is lost."""
    whole = run_two_attempts(warm, "whole")
    assert (whole.starts, whole.outcome.exit_code, whole.output) == ((1, 1), 7, OUTPUT)
    cuts = [Cut(way=way, after=after) for after in list_points(whole, way)]
    assert len(cuts) >= 5
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [one for broken in pool.map(lambda cut: find_broken_promises(warm, cut), cuts) for one in broken]
    assert found == []
    wait_until_gone(lambda: [path.name for path in warm.state.glob("*")], "directories of runs and claims")
    wait_until_gone(lambda: list_processes_of(warm.state)[1:], "agents and scripts")
    with capsys.disabled():
        print(f"\n{way}: cut at {len(cuts)} points: attempt 1 ran once, exit status and log right, nothing left")
