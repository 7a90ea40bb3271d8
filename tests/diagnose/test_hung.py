"""A hung run that the user stops: the hang stays in the view, the report, the JSON and the record."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from fanout.cli.parser import parse_arguments
from fanout.commands.report import run_report
from fanout.diagnose.signatures import load_builtin
from fanout.diagnose.verdict import Verdict
from fanout.logs.metric_line import MetricReading
from fanout.logs.run_progress import RunProgress
from fanout.model import outcome
from fanout.model.actions import Inspect
from fanout.model.events import ActionSent, Answered, Interrupted
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.record.run_writer import RunWriter
from fanout.run import diagnosis
from fanout.ui.footer import build_footer
from fanout.ui.host_rows import DisplayData
from fanout.ui.run_condition import Observations, RunCondition, find_run_status
from tests.diagnose.kit import CLOSED, Run
from tests.histories import T0, play_events
from tests.process_contexts import build_process

WAITS = [
    ["/opt/venv/lib/python3.11/site-packages/torch/distributed/distributed_c10d.py", 2806, "all_reduce"],
    ["/home/ann/proj/train.py", 14, "step"],
]
LOADS = [["/home/ann/proj/data.py", 5, "load_batch"]]


def rank_entry(rank: int, *, odd: int, moved: bool = False) -> dict[str, object]:
    stack = LOADS if rank == odd else WAITS
    return {"rank": rank, "pid": 20_000 + rank, "state": "S", "stack": stack, "moved": moved}


def build_hanging(odd: int = 2, *, moved: bool = False) -> Run:
    """Return a run of two hosts with two ranks each: silent for 20 s, and all stacks are known."""
    run = Run()
    run.pass_time(20.0)
    run.add_events(
        *(
            ActionSent(at=run.at, action=Inspect(host=host, ask=1_000_000, what="stacks", since=20.0))
            for host in run.hosts
        )
    )
    for number, host in enumerate(run.hosts):
        ranks = [rank_entry(rank, odd=odd, moved=moved) for rank in (2 * number, 2 * number + 1)]
        run.add_events(Answered(at=run.at + 2.0, host=host, ask=1_000_000, value={"ranks": ranks, "busy": 0}, error=""))
    run.pass_time(4.0)
    return run


def interrupt_run(run: Run, signal: int = 2) -> Run:
    """Stop the run by the user's interrupt; the ranks then print what victims print."""
    run.add_events(Interrupted(at=run.at, signal=signal)).stop_hosts("interrupted", *run.hosts)
    run.victims(0, text=CLOSED, peer="10.0.0.2", after=0.3)
    run.torchrun("gpu01", (0, 1), (1, -15)).torchrun("gpu02", (2, -15), (3, -15))
    run.pass_time(1.0)
    run.release_hosts(*run.hosts)
    return run


def judge_run(run: Run) -> tuple[outcome.RunOutcome, Verdict | None, RunState]:
    ranks = {host: (node, 2) for node, host in enumerate(run.hosts)}
    witness = diagnosis.build_collector(RunInfo(run_id="1", title="t", hosts=run.hosts, ranks=ranks), load_builtin())
    state = run.play_events(witness)
    return *diagnosis.diagnose_run(witness, state, outcome.outcome_of(state)), state


def test_a_hang_that_the_user_stops_keeps_its_verdict() -> None:
    ended, verdict, _ = judge_run(interrupt_run(build_hanging()))
    assert verdict is not None
    assert verdict.cause is not None
    assert (ended.exit_code, ended.hung, ended.headline) == (130, True, "hung, stopped by SIGINT")
    assert (verdict.rule, verdict.cause.rank, verdict.cause.host, verdict.confidence) == ("apart", 2, "gpu02", "high")
    assert verdict.silent == ()  # where they wait is known
    assert verdict.victims == ()  # output of the ranks during the stop is no part of the hang


def test_a_time_limit_that_ends_a_hang_keeps_its_verdict() -> None:
    run = build_hanging()
    run.stop_hosts("time limit", *run.hosts, reason="time-limit").pass_time(1.0).end_hosts(
        *run.hosts, code=None, signal=15
    ).release_hosts(*run.hosts)
    ended, verdict, _ = judge_run(run)
    assert (ended.exit_code, ended.headline) == (124, "hung, stopped: time limit")
    assert verdict is not None


def test_ctrl_c_in_the_grace_after_a_failure_keeps_the_diagnosis() -> None:
    """The failure came first: the user only did not wait for the others."""
    run = Run().raises(3, "ValueError: bad sample 1234").victims(2)
    run.torchrun("gpu02", (3, 1), (2, -15))
    run.pass_time(0.5)
    run.add_events(Interrupted(at=run.at, signal=2)).stop_hosts("interrupted", "gpu01").pass_time(0.3)
    run.end_hosts("gpu01", code=None, signal=15).release_hosts(*run.hosts)
    ended, verdict, _ = judge_run(run)
    assert (ended.exit_code, ended.first, ended.hung) == (1, "gpu02", False)
    assert verdict is not None
    assert verdict.cause is not None
    assert (verdict.cause.rank, verdict.confidence) == (3, "high")


@pytest.mark.parametrize("what", ["moves", "spoke since"])
def test_a_healthy_run_that_the_user_stops_has_no_verdict(what: str) -> None:
    run = build_hanging(moved=what == "moves")
    if what == "spoke since":
        run.out(0, "step 2 loss 3.1").pass_time(0.5)
    ended, verdict, _ = judge_run(interrupt_run(run))
    assert (ended.headline, ended.hung, verdict) == ("stopped by SIGINT", False, None)


def test_report_and_json_and_record_agree(tmp_path: Path) -> None:
    run = interrupt_run(build_hanging())
    ranks = {host: (node, 2) for node, host in enumerate(run.hosts)}
    heading = RunInfo(run_id="7f3a", title="train.py", hosts=run.hosts, log_dir=str(tmp_path / "7f3a"), ranks=ranks)
    record = RunWriter(str(tmp_path / "7f3a"), heading)
    record.begin(run.began_at)
    state = run.play_events(record)
    record.finish(outcome.outcome_of(state), "")
    record.close()
    for words in ([], ["--json"], ["--html", "page.html"]):
        out = io.StringIO()
        process = build_process(tmp_path, out)
        assert run_report(parse_arguments(["report", "--log-dir", str(tmp_path), *words]), process) == 0
        if words == ["--json"]:
            found = json.loads(out.getvalue())
            assert (found["rule"], found["cause"]["rank"], found["confidence"]) == ("apart", 2, "high")
            assert found["stands"][0] == "ranks 0-1,3 (gpu[01-02]) wait in all_reduce (train.py:14)"
        elif words:
            assert "is in load_batch (data.py:5)" in (tmp_path / "page.html").read_text()
        else:
            assert "HUNG, STOPPED BY YOU after" in out.getvalue()
            assert "is in load_batch (data.py:5) while the others wait in all_reduce" in out.getvalue()


def test_the_view_shows_the_hang() -> None:
    run = build_hanging()
    ranks = {host: (node, 2) for node, host in enumerate(run.hosts)}
    heading = RunInfo(run_id="1", title="t", hosts=run.hosts, ranks=ranks)
    witness = diagnosis.build_collector(heading, load_builtin())
    teller = diagnosis.HangReporter(witness)
    state = run.play_events(witness, teller)
    hung = teller.hung_hosts(state)
    assert hung is not None
    assert list(hung) == ["gpu02"]
    progress = RunProgress()
    for step in range(1, 13):
        progress.add_reading(MetricReading(step=step, total=100, loss=2.0), T0 + step)
    assert progress.estimate_time_left(T0 + 12) is not None
    rows = build_footer(
        heading, state, DisplayData(lines={}, readings={}, progress=progress, hung=hung), width=100, height=30
    )
    text = ["".join(part for part, _ in row) for row in rows]
    assert text[0].rstrip().endswith("HUNG 29 s")
    assert text[1].startswith(" ● gpu01")
    assert text[2].startswith(" ! gpu02")
    assert not any("left" in line for line in text)
    assert any("rank 2 on gpu02" in line for line in diagnosis.preview_verdict(witness, state))


def test_the_view_runs_again_once_a_line_comes() -> None:
    run = build_hanging()
    run.out(0, "step 2 loss 3.1").pass_time(0.5)
    heading = RunInfo(run_id="1", title="t", hosts=run.hosts)
    witness = diagnosis.build_collector(heading, load_builtin())
    teller = diagnosis.HangReporter(witness)
    state = run.play_events(witness, teller)
    assert teller.hung_hosts(state) is None
    assert find_run_status(heading, state, Observations()).condition is RunCondition.RUNNING


def test_output_during_the_stop_does_not_end_the_hang() -> None:
    run = interrupt_run(build_hanging())
    state = play_events(run.hosts, run.events, began_at=T0)
    assert state.output_at is not None
    assert state.ending_at is not None
    assert state.output_at < state.ending_at
