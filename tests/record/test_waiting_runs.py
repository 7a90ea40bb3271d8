"""Files of runs that wait for hosts: who sees them, when they end, and that nothing else is deleted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fanout.model.errors import LauncherError
from fanout.record.run_summary import list_run_summaries
from fanout.record.waiting_runs import (
    KEPT_SECONDS,
    WaitingRecord,
    WaitingRun,
    find_waiting_run,
    list_waiting_runs,
    remove_old_waits,
)

RUN = "20261130-081502-1f0c2ab3d4e5"
OTHER = "20261130-081503-1f0c2ab3d4e5"


def build_waiting(run: str = RUN, name: str = "lr3") -> WaitingRun:
    return WaitingRun(
        run=run,
        name=name,
        title="train.py cfg.yaml",
        hosts=("gpu01", "gpu02"),
        pid=4711,
        user="ann",
        machine="desk",
        since=100.0,
    )


def test_waiting_run_is_listed_found_and_gone_after_its_start(tmp_path: Path) -> None:
    record = WaitingRecord(str(tmp_path), build_waiting())
    record.update(status="1 of 2 free", detached=True)
    (summary,) = list_run_summaries(str(tmp_path))
    assert (summary.run, summary.state, summary.active) == (RUN, "waiting for hosts", True)
    assert (summary.progress, summary.launcher) == ("1 of 2 free", "detached (pid 4711 on desk)")
    for word in ("", RUN, "lr3", "081502"):
        found = find_waiting_run(word, str(tmp_path))
        assert found is not None, word
        assert found.run == RUN
    assert find_waiting_run("lr4", str(tmp_path)) is None
    record.close(keep=False)
    assert os.listdir(tmp_path) == []


def test_reason_of_a_background_wait_stays_visible(tmp_path: Path) -> None:
    record = WaitingRecord(str(tmp_path), build_waiting())
    record.update(cause="not free within --wait 8h; gpu02: GPU 0-7: bob", exit_code=125, ended=200.0)
    record.close(keep=True)
    (summary,) = list_run_summaries(str(tmp_path))
    assert (summary.state, summary.active, summary.exit_code, summary.ended) == ("not launched", False, 125, 200.0)
    assert summary.cause.startswith("not free within --wait 8h")
    assert find_waiting_run(RUN, str(tmp_path)) is None


def test_wait_whose_process_was_killed_is_not_listed(tmp_path: Path) -> None:
    WaitingRecord(str(tmp_path), build_waiting()).close(keep=True)
    assert list_waiting_runs(str(tmp_path)) == []


def test_two_waiting_runs_must_be_named(tmp_path: Path) -> None:
    records = [WaitingRecord(str(tmp_path), build_waiting(run, name)) for run, name in ((RUN, "a"), (OTHER, "b"))]
    assert find_waiting_run("", str(tmp_path)) is None
    found = find_waiting_run("b", str(tmp_path))
    assert found is not None
    assert found.run == OTHER
    for record in records:
        record.close(keep=False)


def test_output_of_the_background_moves_to_the_record(tmp_path: Path) -> None:
    record = WaitingRecord(str(tmp_path), build_waiting())
    Path(record.log).write_text("waiting\n")
    record.move_log(str(tmp_path / "launcher.log"))
    record.close(keep=False)
    assert os.listdir(tmp_path) == ["launcher.log"]


def test_only_files_of_waits_are_deleted(tmp_path: Path) -> None:
    """A live wait, a file of another program, and a link stay."""
    own = WaitingRecord(str(tmp_path), build_waiting())
    WaitingRecord(str(tmp_path), build_waiting(OTHER)).close(keep=True)
    (tmp_path / "notes.waiting").write_text("mine\n")
    (tmp_path / "20200101-000000-abcdef012345.waiting").write_text("not JSON\n")
    (tmp_path / "20200101-000001-abcdef012345.waiting").symlink_to(tmp_path / "notes.waiting")
    remove_old_waits(str(tmp_path), 100.0 + KEPT_SECONDS - 1)
    assert len(list(tmp_path.iterdir())) == 5
    remove_old_waits(str(tmp_path), 100.0 + KEPT_SECONDS + 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "20200101-000000-abcdef012345.waiting",
        "20200101-000001-abcdef012345.waiting",
        f"{RUN}.waiting",
        "notes.waiting",
    ]
    with pytest.raises(LauncherError, match="File exists"):
        WaitingRecord(str(tmp_path), build_waiting())
    own.close(keep=False)
    assert not (tmp_path / f"{RUN}.waiting").exists()
