"""Which run is meant without RUN: the one that goes on, and never one that ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.cli.main import main
from fanout.model.errors import UsageError
from fanout.record import writer_lock
from fanout.record.run_lookup import find_active_run, find_run
from tests.record.test_retention import NOW, make_runs


def hold_record(path: Path) -> writer_lock.RecordLock:
    """Let a launcher live: it holds the record, which has no end yet."""
    (path / "result.json").unlink()
    (path / "order.json").write_text("{}")
    hold = writer_lock.acquire_lock(str(path), writer_lock.LockOwner(pid=1, user="u", machine="m", since=NOW))
    assert hold is not None
    return hold


def test_the_one_live_run_is_meant_although_a_newer_one_ended(tmp_path: Path) -> None:
    old, new = make_runs(tmp_path, 2)
    hold = hold_record(old)
    assert find_active_run("", str(tmp_path), "stop") == str(old)
    assert find_run("", str(tmp_path)) == str(new)
    assert find_active_run("latest", str(tmp_path), "stop") == str(new)
    hold.release_lock()


def test_a_run_whose_launcher_died_goes_on_unless_another_is_held(tmp_path: Path) -> None:
    lost, other, _ = make_runs(tmp_path, 3)
    hold_record(lost).release_lock()
    assert find_active_run("", str(tmp_path), "attach") == str(lost)
    hold = hold_record(other)
    assert find_active_run("", str(tmp_path), "attach") == str(other)
    hold.release_lock()


def test_several_live_runs_need_an_explicit_choice(tmp_path: Path) -> None:
    first, second, _ = make_runs(tmp_path, 3)
    holds = [hold_record(first), hold_record(second)]
    with pytest.raises(UsageError) as caught:
        find_active_run("", str(tmp_path), "stop")
    assert caught.value.exit_code == 2
    assert "stop: 2 runs are active:" in str(caught.value)
    assert first.name in str(caught.value)
    assert second.name in str(caught.value)
    assert caught.value.hint == f"fanout stop {second.name}"
    for hold in holds:
        hold.release_lock()


@pytest.mark.parametrize("verb", ["stop", "attach", "stacks"])
def test_command_reports_that_no_run_is_live(tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(tmp_path, 2)
    (tmp_path / "zzz-not-a-run").mkdir()
    assert main([verb, "--log-dir", str(tmp_path)]) == 2
    assert f"no active run in {tmp_path}" in capsys.readouterr().err
    assert find_run("", str(tmp_path)).endswith("00001-00ff")


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_an_active_run_has_no_outcome_to_report(
    tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The report of its events so far would state that it was stopped."""
    (run,) = make_runs(tmp_path, 1)
    hold = hold_record(run)
    assert main(["report", *flags, "--log-dir", str(tmp_path), run.name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"run {run.name} is active (pid 1 of u on m): it has no outcome to report yet" in err
    assert f"fanout attach {run.name}" in err
    hold.release_lock()
