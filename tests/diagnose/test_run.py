"""Verdicts of ``fanout run`` and ``fanout report``: the report and the record contain the same one."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.cli.parser import parse_arguments
from fanout.commands.report import run_report
from fanout.diagnose.signatures import load_builtin
from fanout.model import outcome
from fanout.model.run_info import RunInfo
from fanout.record.run_writer import RunWriter
from fanout.run import diagnosis
from tests import histories
from tests.diagnose.cases import CASES, ONE_A_HOST
from tests.diagnose.kit import verdict
from tests.histories import History
from tests.process_contexts import build_process


def write_record(run: History, root: Path, each: int = 2) -> None:
    """Write the run's directory, as a launcher would."""
    ranks = {host: (node, each) for node, host in enumerate(run.hosts)}
    heading = RunInfo(run_id="7f3a", title="train.py", hosts=run.hosts, log_dir=str(root / "7f3a"), ranks=ranks)
    record = RunWriter(str(root / "7f3a"), heading)
    record.begin(run.began_at)
    state = run.play_events(record)
    record.finish(outcome.outcome_of(state), "")
    record.close()


def read_report(root: Path, *words: str) -> str:
    out = io.StringIO()
    process = build_process(root, out)
    assert run_report(parse_arguments(["report", "--log-dir", str(root), *words]), process) == 0
    return out.getvalue()


@pytest.mark.parametrize("name", CASES)
def test_a_record_gives_the_same_verdict(name: str, tmp_path: Path) -> None:
    each = 1 if name in ONE_A_HOST else 2
    run = CASES[name][0]()
    write_record(run, tmp_path, each)
    again = json.loads(read_report(tmp_path, "--json"))
    live = verdict(run, each=each)
    assert live.cause is not None
    if name in (
        "blamed host",
        "partition, one is slower",
        "the kernel's line",
    ):  # the addresses are not in a record; its times are coarser
        return
    assert (again["cause"]["host"], again["cause"]["rank"]) == (live.cause.host, live.cause.rank)
    assert again["confidence"] == live.confidence
    assert again["run"] == "7f3a"


def test_the_report_of_a_record_quotes_the_cause_and_not_a_victim(tmp_path: Path) -> None:
    write_record(CASES["a victim's host ends first"][0](), tmp_path)
    assert "rank 2 on gpu02" in read_report(tmp_path).splitlines()[-1]
    text = read_report(tmp_path, "--full")
    assert "first cause  rank 2 on gpu02" in text
    assert "its traceback" not in text


def test_the_report_of_a_good_run_has_no_diagnosis(tmp_path: Path) -> None:
    write_record(histories.good_run(), tmp_path)
    assert "first cause" not in read_report(tmp_path)
    assert json.loads(read_report(tmp_path, "--json"))["cause"] is None


@pytest.mark.parametrize("name", ["unreachable", "interrupted", "good"])
def test_no_verdict_if_the_headline_has_all(name: str) -> None:
    run = histories.TYPICAL[name]()
    witness = diagnosis.build_collector(RunInfo(run_id="1", title="t", hosts=run.hosts), load_builtin())
    state = run.play_events(witness)
    assert diagnosis.diagnose_run(witness, state, outcome.outcome_of(state)) == (outcome.outcome_of(state), None)


SCRIPT = """echo step 1 loss 2.0
python3 -c 'import no_such_module_here'
exit 1
"""


@pytest.mark.process
def test_a_real_run_that_fails_leaves_its_verdict(tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text(SCRIPT)
    (tmp_path / "task.py").write_text("")
    environ = os.environ | {"FANOUT_STATE": str(tmp_path / "state"), "XDG_STATE_HOME": str(tmp_path / "xdg")}
    words = ["run", "--skip-check", "--nproc-per-node", "1", "--venv", "none", "--output", "plain"]
    done = subprocess.run(
        [sys.executable, "-m", "fanout", *words, "localhost", "task.py"],
        cwd=tmp_path,
        env=environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "FAILED after" in done.stderr
    assert ": rank 0 on localhost has no module no_such_module_here" in done.stderr.splitlines()[-1]
    assert "ModuleNotFoundError: No module named 'no_such_module_here'" in done.stderr
    (kept,) = (tmp_path / "xdg").rglob("verdict.json")
    found = json.loads(kept.read_text())
    assert (found["cause"]["signature"], found["cause"]["file"]) == ("no-module", "logs/localhost.log:4")
