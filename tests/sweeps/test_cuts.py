"""The first connection is cut after exactly N bytes: the script runs once, its exit status and its log are whole.

Every byte to the launcher, every byte to the host but for the inside of the agent's compressed text, of which a sample
is enough; the host learns of the cut at once ("end"), or neither side does ("silence"). ``make cuts`` takes every
point, ``make test`` every few.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fanout.agent import bundle
from fanout.model.policy import Policy
from fanout.remote import connection
from tests.agent.agents import list_processes_of, wait_until_gone
from tests.agent.conftest import linux
from tests.sweeps.cutting import OUTPUT, POLICY, Cut, WarmHost, list_points, warm_host

pytestmark = [pytest.mark.process, linux]
WHOLE = bool(os.environ.get("FANOUT_SWEEP"))
STEP = 1 if WHOLE else 13
AGENT_STEP = 61 if WHOLE else 1999
AT_ONCE = 8


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[WarmHost]:
    with warm_host(tmp_path) as host:
        yield host


def _list_points(warm: WarmHost, way: str) -> list[int]:
    """Return where to cut, from a run that is not cut."""
    return list_points(warm.run_plan("whole").passed[way], way, step=STEP, agent_step=AGENT_STEP)


def _broken_promises(warm: WarmHost, cut: Cut, policy: Policy) -> list[str]:
    """Return the promises that a run with this cut did not keep."""
    result = warm.run_plan(f"{cut.way}-{cut.how}-{cut.after}", cut, policy)
    seen = {
        "starts": result.starts,
        "exit code": result.outcome.exit_code,
        "log": result.output,
        "whole": set(result.whole),
        "left": result.outcome.hosts[0].left,
    }
    promised: dict[str, object] = {"starts": 1, "exit code": 7, "log": OUTPUT, "whole": {True}, "left": 0}
    if cut.how == "silence" and result.outcome.hosts[0].verdict == "unreached":  # in the login: the time-out's business
        promised |= {"starts": 0, "exit code": 255, "log": b"", "whole": set()}
    return [f"{cut}: {name} is {seen[name]!r}" for name in promised if seen[name] != promised[name]]


def _sweep_cuts(warm: WarmHost, cuts: list[Cut], policy: Policy = POLICY) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [one for broken in pool.map(lambda cut: _broken_promises(warm, cut, policy), cuts) for one in broken]
    assert found == []
    wait_until_gone(lambda: [path.name for path in warm.state.glob("*")], "directories of runs and claims")
    wait_until_gone(lambda: list_processes_of(warm.state)[1:], "agents and scripts")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["in", "out"])
def test_a_connection_cut_at_any_byte_costs_nothing(
    warm: WarmHost, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both ends see the end of the connection; what was on its way is lost."""
    cuts = [Cut(way=way, after=after) for after in _list_points(warm, way)]
    _sweep_cuts(warm, cuts)
    with capsys.disabled():
        print(f"\n{way}: cut at {len(cuts)} points: ran once, exit status and log right, nothing left")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["in", "out"])
def test_a_connection_that_falls_silent_at_any_byte_costs_the_time_to_notice(
    warm: WarmHost, way: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No end is seen, as behind a firewall that forgot the connection; here a silence of half a second is noticed."""
    monkeypatch.setattr(connection, "SILENT_SECONDS", 0.5)
    points = [point for point in _list_points(warm, way) if way == "in" or point > len(bundle.pack_agent())]
    cuts = [Cut(way=way, after=after, how="silence") for after in points[:: 1 if WHOLE else 5]]
    _sweep_cuts(warm, cuts)
    with capsys.disabled():
        print(f"\n{way}: silent after {len(cuts)} points: ran once, exit status and log right, nothing left")
