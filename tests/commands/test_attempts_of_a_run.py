"""Commands that show a recorded run with restarts: RUN means all attempts, RUN.N means one."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fanout.cli.parser import parse_arguments
from fanout.commands.logs import run_logs
from fanout.commands.replay import run_replay
from fanout.commands.report import run_report
from fanout.model.attempt_record import NextAction
from fanout.model.outcome import outcome_of
from fanout.model.run_info import AttemptInfo
from fanout.record.run_writer import RunWriter
from tests.histories import History, good_run, run_between_attempts
from tests.process_contexts import build_process
from tests.record.test_attempts import RESTART, build_record, write_records
from tests.ui.goldens import build_heading

RUN = "20261130-042427-d57a707909fb"


def record_attempt(path: Path, number: int, run: History) -> None:
    """Record the attempt as its launcher does."""
    info = AttemptInfo(number=number, max_restarts=3, used=number, cause="attempt 0 failed" if number else "")
    run_id = f"{RUN}.{number}" if number else RUN
    writer = RunWriter(str(path), replace(build_heading(run.hosts), run_id=run_id, attempt=info))
    writer.begin(run.began_at)
    state = run.play_events(writer)
    writer.write_file("order.json", "{}")
    writer.finish(outcome_of(state), "")
    writer.close()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a directory with one run: attempt 0 failed on gpu02, attempt 1 succeeded on gpu09."""
    record_attempt(tmp_path / RUN, 0, run_between_attempts("backoff", "start"))
    record_attempt(tmp_path / RUN / "attempt-1", 1, good_run(("gpu01", "gpu09"), steps=2))
    last = replace(
        build_record(1, NextAction(action="end", reason="succeeded")), exit_code=0, began=14.0, started=15.0, ended=40.0
    )
    write_records(tmp_path / RUN, build_record(0, RESTART), last)
    return tmp_path


def call_command(command: Any, verb: str, runs: Path, *words: str) -> tuple[int, str]:
    out = io.StringIO()
    code = command(parse_arguments([verb, "--log-dir", str(runs), *words]), build_process(runs, out))
    return code, out.getvalue()


def test_logs_have_a_line_before_each_attempt(runs: Path) -> None:
    _, text = call_command(run_logs, "logs", runs, RUN)
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("---")] == [
        "--- attempt 0 on gpu[01-02] ---",
        "--- attempt 1 of 3 on gpu[01,09] ---",
    ]
    assert lines[1] == "gpu01 | step 1/9 loss 3.0"
    assert len(lines) == 2 + 1 + 4


@pytest.mark.parametrize(("word", "hosts"), [(f"{RUN}.0", {"gpu01"}), (f"{RUN}.1", {"gpu01", "gpu09"})])
def test_logs_of_one_attempt_have_no_such_line(runs: Path, word: str, hosts: set[str]) -> None:
    _, text = call_command(run_logs, "logs", runs, word)
    assert {line.split(" ")[0] for line in text.splitlines()} == hosts


def test_logs_of_a_host_that_joined_later(runs: Path) -> None:
    _, text = call_command(run_logs, "logs", runs, RUN, "--host", "gpu09")
    assert text.splitlines()[0] == "--- attempt 1 of 3 on gpu[01,09] ---"
    assert "gpu01 |" not in text
    _, files = call_command(run_logs, "logs", runs, RUN, "--files")
    assert [Path(line).relative_to(runs / RUN).as_posix() for line in files.splitlines()] == [
        "logs/gpu01.log",
        "logs/gpu02.log",
        "attempt-1/logs/gpu01.log",
        "attempt-1/logs/gpu09.log",
    ]


def test_report_has_the_table_of_attempts(runs: Path) -> None:
    code, text = call_command(run_report, "report", runs, RUN)
    assert code == 0
    assert re.search(r"^0 +gpu01 .* on the same hosts$", text, re.MULTILINE)
    assert re.search(r"^1 +gpu01 .* succeeded$", text, re.MULTILINE)
    assert "LOST BEFORE ATTEMPT" in text
    _, text = call_command(run_report, "report", runs, f"{RUN}.0")
    assert "ATTEMPT" not in text
    assert "SIGKILL" in text


def test_json_report_has_the_attempts(runs: Path) -> None:
    _, text = call_command(run_report, "report", runs, "--json", RUN)
    report = json.loads(text)
    assert [each["attempt"] for each in report["attempts"]] == [0, 1]
    assert report["attempts"][0]["next"]["replaced"] == [["a", "b"]]


def test_attempt_that_never_started_does_not_hide_the_report_of_the_last_one(runs: Path) -> None:
    (runs / RUN / "attempt-1" / "order.json").unlink()
    _, text = call_command(run_report, "report", runs, RUN)
    assert "SIGKILL" in text


def test_page_has_all_attempts(runs: Path) -> None:
    call_command(run_report, "report", runs, "--html", "page.html", RUN)
    page = (runs / "page.html").read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    assert [each["attempt"] for each in data["attempts"]] == [1, 0]
    assert [host["name"] for host in data["attempts"][1]["hosts"]] == ["gpu01", "gpu02"]
    assert any("LOST BEFORE ATTEMPT" in line for line in data["table"])


def test_replay_names_the_attempt_that_it_plays(runs: Path) -> None:
    code, text = call_command(run_replay, "replay", runs, RUN)
    assert code == 0
    assert f"fanout: playing attempt 1; the others:  fanout replay {RUN}.0" in text
    _, text = call_command(run_replay, "replay", runs, f"{RUN}.0")
    assert "playing attempt" not in text
    assert "restart 1 of 3: gpu09 replaces gpu02 as node rank 1" in text
