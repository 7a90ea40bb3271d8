"""A train.sh that ends with 0 although torchrun reported a failure, and the log that the report recommends."""

from __future__ import annotations

from dataclasses import replace

from fanout.diagnose.signatures import load_builtin
from fanout.diagnose.verdict import Verdict
from fanout.logs.tail import LogTails
from fanout.model import outcome
from fanout.model.events import Exited
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.run import closing_report, diagnosis
from fanout.ui.run_report import build_report
from tests.diagnose.kit import Run


def judge_run(run: Run) -> tuple[outcome.RunOutcome, Verdict | None, str]:
    ranks = {host: (node, 2) for node, host in enumerate(run.hosts)}
    heading = RunInfo(run_id="7f3a", title="t", hosts=run.hosts, ranks=ranks)
    witness = diagnosis.build_collector(heading, load_builtin())
    state: RunState = run.play_events(witness)
    ended, verdict = diagnosis.diagnose_run(witness, state, outcome.outcome_of(state))
    facts = closing_report.build_facts(heading, state, ended, verdict, LogTails())
    return ended, verdict, build_report(facts)


def replace_status(run: Run, code: int) -> Run:
    """Replace the exit status of train.sh."""
    run.events = [replace(event, code=code) if isinstance(event, Exited) else event for event in run.events]
    run.pass_time(0.5).release_hosts(*run.hosts).pass_time(0.5)
    return run


def failing() -> Run:
    run = Run().raises(3, "ValueError: bad sample 1234").victims(0, 1, 2)
    return run.torchrun("gpu02", (3, 1), (2, -15)).torchrun("gpu01", (0, 1), (1, -15))


def test_a_failure_that_train_sh_hides_is_no_success() -> None:
    ended, verdict, text = judge_run(replace_status(failing(), 0))
    assert verdict is not None
    assert verdict.cause is not None
    assert (ended.exit_code, ended.is_success, verdict.cause.rank, verdict.confidence) == (1, False, 3, "high")
    assert "train.sh exited with 0, although torchrun reported a failure" in text
    assert "FAILED after" in text
    assert "succeeded" not in ended.headline
    assert "exit status  1 (from torchrun on gpu02)" in text


def test_a_script_that_starts_torchrun_again_has_hidden_nothing() -> None:
    run = failing()
    for step in range(2, 9):
        for rank in range(4):
            run.out(rank, f"[rank{rank}]: step {step} loss 2.0")
        run.pass_time(1.0)
    ended, verdict, text = judge_run(replace_status(run, 0))
    assert (ended.is_success, verdict) == (True, None)
    assert "both hosts succeeded" in text


def test_the_next_command_names_the_host_and_the_rank_of_the_verdict() -> None:
    """gpu01 ended first, but its ranks are victims: the report recommends the log of rank 3 on gpu02."""
    run = Run().raises(3, "ValueError: bad sample 1234").victims(0, 1, 2)
    run.torchrun("gpu01", (0, 1), (1, -15)).torchrun("gpu02", (3, 1), (2, -15), after=1.0)
    ended, _, text = judge_run(replace_status(run, 1))
    assert ended.first == "gpu01"
    assert "fanout logs 7f3a --host gpu02 --rank 3\n" in text
