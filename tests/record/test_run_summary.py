"""Summaries of recorded runs, and ``fanout ps``, which lists them: state, attempt, end, cause and progress."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fanout.cli.main import main
from fanout.commands.ps import RECENT_RUNS
from fanout.record import writer_lock
from fanout.record.run_summary import list_run_summaries
from fanout.run.recorded_progress import add_progress
from tests.processes import hold_process
from tests.record.test_attempts import RESTART, build_record, hold_record, write_records
from tests.record.test_retention import make_runs, record_run


def change_result(path: Path, **facts: Any) -> None:
    """Change the outcome of an ended run. A launched run has a handle."""
    result = json.loads((path / "result.json").read_text())
    (path / "result.json").write_text(json.dumps(result | facts))
    (path / "order.json").write_text("{}")


def write_cause(path: Path, says: str, rank: int | None = 5, signature: str = "apart") -> None:
    cause = {"signature": signature, "says": says, "host": "gpu02", "rank": rank}
    (path / "verdict.json").write_text(json.dumps({"cause": cause}))


@pytest.mark.parametrize(
    ("facts", "state", "cause"),
    [
        ({"exit_code": 0}, "succeeded", ""),
        ({"exit_code": 7, "headline": "gpu01: exit 7"}, "failed", "gpu01: exit 7"),
        (
            {"exit_code": 130, "origin": "user", "headline": "stopped by SIGINT", "stopped_why": "by SIGINT"},
            "stopped",
            "by Ctrl-C",
        ),
        (
            {
                "exit_code": 130,
                "origin": "user",
                "headline": "stopped by SIGINT",
                "stopped_why": "by SIGINT",
                "hung": True,
            },
            "hung",
            "by Ctrl-C",
        ),
        (
            {
                "exit_code": 143,
                "origin": "user",
                "headline": "stopped by ann@pc with fanout stop",
                "stopped_why": "by ann@pc with fanout stop",
            },
            "stopped",
            "by ann@pc with fanout stop",
        ),
        (
            {"exit_code": 124, "origin": "fanout", "headline": "stopped: time limit", "stopped_why": "time limit"},
            "stopped",
            "time limit",
        ),
    ],
)
def test_the_state_of_an_ended_run(tmp_path: Path, facts: dict[str, Any], state: str, cause: str) -> None:
    (path,) = make_runs(tmp_path, 1)
    change_result(path, **facts)
    (run,) = list_run_summaries(str(tmp_path))
    assert (run.state, run.cause, run.active, run.exit_code) == (state, cause, False, facts["exit_code"])
    assert run.since is not None
    assert run.ended is not None
    assert run.ended >= run.since


@pytest.mark.parametrize(
    ("signature", "says", "rank", "cause"),
    [
        ("cuda-out-of-memory", "ran out of GPU memory", 5, "rank 5: ran out of GPU memory"),
        ("python-exception", "ended with ValueError: bad label 7", 5, "rank 5: ValueError: bad label 7"),
        (
            "python-exception",
            "ended with ValueError: bad shape (want 3 got 4)",
            5,
            "rank 5: ValueError: bad shape (want 3 got 4)",
        ),
        (
            "python-exception",
            "ended with OSError: bad, without a known error (a b)",
            5,
            "rank 5: OSError: bad, without a known error (a b)",
        ),
        (
            "signal",
            "was killed by SIGKILL, without a known error (by the OOM killer)",
            5,
            "rank 5: was killed by SIGKILL",
        ),
        (
            "exit",
            "ended by itself with exit 127, without a known error (no (such) command)",
            5,
            "rank 5: ended by itself with exit 127",
        ),
        ("exit", "ended by itself with exit 3, without a known error", 5, "rank 5: ended by itself with exit 3"),
        ("lost", "was lost (no connection for 45 s (the connection was closed))", None, "gpu02 was lost"),
        ("reboot", "rebooted", None, "gpu02 rebooted"),
    ],
)
def test_the_cause_is_one_short_phrase(tmp_path: Path, signature: str, says: str, rank: int | None, cause: str) -> None:
    (path,) = make_runs(tmp_path, 1)
    change_result(path, exit_code=1)
    write_cause(path, says, rank, signature)
    assert [run.cause for run in list_run_summaries(str(tmp_path))] == [cause]


def test_a_hang_that_the_user_stopped_keeps_its_cause(tmp_path: Path) -> None:
    (path,) = make_runs(tmp_path, 1)
    change_result(path, exit_code=130, origin="user", headline="stopped by SIGINT", stopped_why="by SIGINT", hung=True)
    write_cause(path, "is in load_batch (dist.py:5)", 4)
    assert [run.cause for run in list_run_summaries(str(tmp_path))] == ["rank 4: is in load_batch (dist.py:5)"]


def test_runs_without_an_outcome(tmp_path: Path) -> None:
    """A lock means that a launcher writes the record; without one, the handle shows whether the hosts started."""
    paths = make_runs(tmp_path, 3)
    for path in paths:
        (path / "result.json").unlink()
    (paths[1] / "order.json").write_text("{}")
    owner = writer_lock.LockOwner(pid=4242, user="ann", machine="vm", since=0.0, detached=True)
    lock = writer_lock.acquire_lock(str(paths[2]), owner)
    assert lock is not None
    runs = list_run_summaries(str(tmp_path))
    assert [(run.state, run.active) for run in runs] == [
        ("not launched", False),
        ("launcher lost", True),
        ("running", True),
    ]
    assert runs[2].launcher == "detached (pid 4242 on vm)"
    lock.release_lock()


def test_a_run_with_restarts_shows_its_attempt_and_its_own_age(tmp_path: Path) -> None:
    (path,) = make_runs(tmp_path, 1)
    change_result(path, exit_code=1, headline="gpu01: exit 1")
    lock = hold_record(path)
    now = time.time()
    for fence, wait, state in ((50, 60, "fenced"), (-5, 20, "waiting to restart"), (-9, -1, "restarting")):
        following = replace(RESTART, fence_until=now + fence, until=now + wait, hosts=("gpu01", "gpu09"))
        write_records(path, build_record(0, following))
        (run,) = list_run_summaries(str(tmp_path))
        assert (run.state, run.active, run.attempt, run.hosts) == (state, True, 1, ("gpu01", "gpu09"))
        assert (run.restart_at, run.cause) == (now + wait, "gpu01: exit 1")
    record_run(path / "attempt-1")
    events = path / "attempt-1" / "events.jsonl"
    first, rest = events.read_text().split("\n", 1)
    events.write_text(json.dumps(json.loads(first) | {"run": f"{path.name}.1", "t": 1e9}) + "\n" + rest)
    (path / "attempt-1" / "result.json").unlink()
    (run,) = list_run_summaries(str(tmp_path))
    assert (run.run, run.attempt, run.state) == (path.name, 1, "restarting")  # its check runs
    (path / "attempt-1" / "order.json").write_text("{}")
    (run,) = list_run_summaries(str(tmp_path))
    assert (run.run, run.attempt, run.state) == (path.name, 1, "running")
    assert run.since != 1e9
    assert run.dir == str(path / "attempt-1")
    lock.release_lock()


@pytest.mark.parametrize(
    ("name", "text", "progress"),
    [
        ("h1.rank-0.log", "step 5/60 loss 2.1\nstep 14/60 loss 2.0\nbye\n", ("step 14/60", 14, 60)),
        ("h1.rank-0.log", "x" * 100_000 + "\nstep 14/60 loss 2.0\n", ("step 14/60", 14, 60)),
        ("h1.rank-0-err.log", "\rTraining:  52%|##  | 52/100 [00:10<00:09,  5.2it/s]", ("step 52/100", 52, 100)),
        ("h2.rank-7.log", "step 9/10 loss 1.0\n", ("step 9/10", 9, 10)),
        ("h1.rank-0.log", "nothing\n", ("", None, None)),
    ],
)
def test_the_last_step_comes_from_the_end_of_a_log(tmp_path: Path, name: str, text: str, progress: object) -> None:
    (path,) = make_runs(tmp_path, 1)
    for log in (path / "logs").iterdir():
        log.unlink()
    (run,) = list_run_summaries(str(tmp_path))
    (path / "logs" / name.replace("h1", run.hosts[0])).write_text(text)
    run = add_progress(run)
    assert (run.progress, run.step, run.total) == progress


def test_ps_lists_the_last_ended_runs_and_counts_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = make_runs(tmp_path, RECENT_RUNS + 2)
    assert main(["ps", "--log-dir", str(tmp_path)]) == 0
    seen = capsys.readouterr()
    assert [line.split()[0] for line in seen.out.splitlines()[1:]] == [path.name for path in paths[2:]]
    assert f"no active run, {len(paths)} ended (the last {RECENT_RUNS} are shown)" in seen.err
    assert main(["ps", "--all", "--json", "--log-dir", str(tmp_path)]) == 0
    assert [run["run"] for run in json.loads(capsys.readouterr().out)] == [path.name for path in paths]


def test_json_has_the_same_keys_for_recorded_runs_and_for_hosts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, 1)
    assert main(["ps", "--json", "--log-dir", str(tmp_path)]) == 0
    (recorded,) = json.loads(capsys.readouterr().out)
    nowhere = ["-o", "ProxyCommand=false", "--connect-timeout", "2s"]
    assert main(["ps", "--json", *nowhere, "nowhere.invalid"]) == 255
    (asked,) = json.loads(capsys.readouterr().out)
    assert list(asked) == list(recorded)
    assert (asked["state"], asked["hosts"], asked["run"]) == ("unreachable", ["nowhere.invalid"], None)
    assert asked["cause"]


def test_watch_asks_no_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ps", "--watch", "gpu01"]) == 2
    assert "fanout ps --watch" in capsys.readouterr().err


@pytest.mark.process
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_watch_repeats_the_list_in_a_pipe_until_ctrl_c(tmp_path: Path, flags: list[str]) -> None:
    (path,) = make_runs(tmp_path, 1)
    words = [sys.executable, "-m", "fanout", "ps", "--watch", *flags, "--log-dir", str(tmp_path)]
    with hold_process(subprocess.Popen(words, stdout=subprocess.PIPE, text=True)) as watch:
        assert watch.stdout is not None
        seen = 0
        for line in watch.stdout:
            seen += path.name in line
            if seen == 2:
                break
        assert seen == 2
        watch.send_signal(signal.SIGINT)
        assert watch.wait(60) == 130
