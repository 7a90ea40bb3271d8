"""Retention of recorded runs: the bounds, and that only fanout's own files of runs that are over are deleted."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.model import outcome
from fanout.model.errors import UsageError
from fanout.model.events import Chunk, StreamOpened
from fanout.model.settings import Settings
from fanout.model.shared_options import DEFAULT_RETENTION
from fanout.record import retention, writer_lock
from fanout.record.retention import RecordedRun, RetentionBounds
from fanout.record.run_writer import RunWriter
from tests import histories
from tests.processes import hold_process
from tests.skips import needs
from tests.ui.goldens import build_heading

DAY = 86400.0
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("30d,100,5GB", RetentionBounds(seconds=30 * DAY, count=100, bytes=5_000_000_000)),
        ("all", RetentionBounds()),
        ("12h", RetentionBounds(seconds=43200.0)),
        ("1.5w, 500MB", RetentionBounds(seconds=10.5 * DAY, bytes=500_000_000)),
        ("30", RetentionBounds(count=30)),
        ("4G", RetentionBounds(bytes=4_000_000_000)),
        ("4GiB,1d12h", RetentionBounds(seconds=1.5 * DAY, bytes=4 << 30)),
        ("5m", RetentionBounds(seconds=300.0)),
        ("5M", RetentionBounds(bytes=5_000_000)),
    ],
)
def test_bounds_are_read_in_any_order(text: str, bounds: RetentionBounds) -> None:
    assert retention.parse_bounds(text) == bounds


@pytest.mark.parametrize("text", ["", "30x", "-3d", "1.5", "3d,4d", "5GB,,", "nan", "1h30", "5Gi3", "5i"])
def test_invalid_retention_bound_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="--keep") as caught:
        retention.parse_bounds(text)
    assert "--keep" in caught.value.hint


runs = st.lists(
    st.builds(
        RecordedRun,
        path=st.uuids().map(str),
        at=st.floats(0, 100).map(lambda days: NOW - days * DAY),
        bytes=st.integers(0, 100),
        over=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda run: run.at,  # of two written at the same moment neither is the older one
)
bounds = st.builds(
    RetentionBounds,
    seconds=st.none() | st.floats(0, 100 * DAY),
    count=st.none() | st.integers(0, 12),
    bytes=st.none() | st.integers(0, 500),
)


@given(runs=runs, keep=bounds)
def test_retention_keeps_live_runs_and_the_last_run(runs: list[RecordedRun], keep: RetentionBounds) -> None:
    gone = retention.select_excess_runs(runs, keep, NOW)
    assert all(run.over for run in gone)
    over = [run for run in runs if run.over]
    assert not over or max(over, key=lambda run: run.at) not in gone
    assert keep != RetentionBounds() or not gone


@given(runs=runs, keep=bounds)
def test_retention_meets_its_bounds_except_for_protected_runs(runs: list[RecordedRun], keep: RetentionBounds) -> None:
    gone = retention.select_excess_runs(runs, keep, NOW)
    left = sorted((run for run in runs if run not in gone), key=lambda run: run.at, reverse=True)
    free = [run for run in left if run.over][1:]
    counted = left[: left.index(free[-1]) + 1] if free else []
    assert keep.count is None or len(counted) <= keep.count
    assert keep.bytes is None or sum(run.bytes for run in counted) <= keep.bytes
    assert keep.seconds is None or all(NOW - run.at <= keep.seconds for run in free)


def make_runs(root: Path, count: int) -> list[Path]:
    """Make ended runs, the first the oldest."""
    paths = [root / f"20260101-00000{number}-00ff" for number in range(count)]
    for number, path in enumerate(paths):
        record_run(path)
        os.utime(path / "events.jsonl", (NOW - 100 + number, NOW - 100 + number))
    return paths


def record_run(path: Path) -> None:
    """Record a good run of two streams under the id that the directory's name is."""
    run = histories.good_run()
    log = RunWriter(str(path), replace(build_heading(run.hosts), run_id=path.name))
    log.begin(histories.T0)
    state = run.play_events(log)
    log(StreamOpened(at=run.at, host=run.hosts[0], stream=1, name="rank 0"), state)
    log(Chunk(at=run.at, host=run.hosts[0], stream=1, offset=0, data=b"step 1\n"), state)
    log.finish(outcome.outcome_of(state), "the report")
    log.close()


def make_checkpoint(path: Path, first: str) -> Path:
    """Make a directory of another program with an ``events.jsonl``, and a file in it that must not be lost."""
    path.mkdir(parents=True)
    (path / "events.jsonl").write_text(first + "\n")
    os.utime(path / "events.jsonl", (NOW - 60 * DAY, NOW - 60 * DAY))
    (path / "checkpoint.pt").write_text("weights")
    return path / "checkpoint.pt"


def test_old_runs_are_deleted_and_one_line_reports_it(tmp_path: Path) -> None:
    first, second, third = make_runs(tmp_path, 3)
    (message,) = retention.prune_runs(str(tmp_path), RetentionBounds(count=1), NOW)
    assert message.startswith("removed the record of 2 old runs (")
    assert "\n" not in message
    assert (first.exists(), second.exists(), third.exists()) == (False, False, True)
    assert retention.prune_runs(str(tmp_path), RetentionBounds(count=1), NOW) == []


EVERYTHING = RetentionBounds(count=0, seconds=0.0, bytes=0)


@pytest.mark.parametrize("name", ["resnet", "20251231-235959-00ff", "20251231-235959", "llama.0"])
@pytest.mark.parametrize(
    "first",
    [
        "{}",
        "[]",
        "not json",
        '{"type":"run"}',
        '{"type":"run","run":"20260101-000009-00ff","hosts":["h1"]}',
        '{"type":"end","run":"20251231-235959-00ff","hosts":["h1"]}',
    ],
)
def test_a_directory_of_another_program_is_never_touched(tmp_path: Path, name: str, first: str) -> None:
    make_runs(tmp_path, 2)
    kept = make_checkpoint(tmp_path / name, first)
    retention.prune_runs(str(tmp_path), EVERYTHING, NOW)
    assert kept.read_text() == "weights"


def test_files_of_the_user_in_a_record_are_kept_and_named(tmp_path: Path) -> None:
    old, _ = make_runs(tmp_path, 2)
    (old / "checkpoint.pt").write_text("weights")
    (old / "logs/notes.log").write_text("notes")
    (old / "plots").mkdir()
    removed, kept = retention.prune_runs(str(tmp_path), EVERYTHING, NOW)
    assert removed.startswith("removed the record of 1 old run (")
    assert kept == f"kept {old}: fanout deletes only files that it wrote, not checkpoint.pt, plots, logs/notes.log"
    assert sorted(os.listdir(old)) == ["checkpoint.pt", "logs", "plots"]
    assert os.listdir(old / "logs") == ["notes.log"]


@pytest.mark.parametrize("what", ["events.jsonl", "logs", "logs/gpu01.log", "plan.json", "launcher.json", ""])
def test_no_link_is_followed_or_deleted(tmp_path: Path, what: str) -> None:
    old, _ = make_runs(tmp_path / "runs", 2)
    kept = tmp_path / "elsewhere"
    if (old / what).exists():
        (old / what).rename(kept)
    else:
        kept.write_text("{}")
    (old / what).symlink_to(kept) if what else old.symlink_to(kept)
    before = sorted(str(path) for path in kept.rglob("*")) or kept.read_bytes()
    retention.prune_runs(str(tmp_path / "runs"), EVERYTHING, NOW)
    assert (old / what).is_symlink()
    assert (sorted(str(path) for path in kept.rglob("*")) or kept.read_bytes()) == before


@needs("root")
@pytest.mark.parametrize("what", ["", "events.jsonl"])
def test_a_record_of_another_user_stays(tmp_path: Path, what: str) -> None:
    old, _ = make_runs(tmp_path, 2)
    os.chown(old / what, 65534, 65534)
    retention.prune_runs(str(tmp_path), EVERYTHING, NOW)
    assert (old / "result.json").exists()


def test_a_directory_that_the_user_named_is_pruned_only_with_bounds_of_the_user() -> None:
    assert retention.choose_bounds(Settings()) == retention.parse_bounds(DEFAULT_RETENTION)
    assert retention.choose_bounds(Settings(log_dir="runs")) == RetentionBounds()
    assert retention.choose_bounds(Settings(log_dir="runs", keep="7d")) == RetentionBounds(seconds=7 * DAY)


def test_a_deletion_that_broke_off_is_completed_by_the_next_one(tmp_path: Path) -> None:
    old, _ = make_runs(tmp_path, 2)
    for name in ("logs/gpu01.log", "report.txt"):
        (old / name).unlink()
    retention.prune_runs(str(tmp_path), EVERYTHING, NOW)
    assert not old.exists()


def test_logs_whose_naming_event_was_lost_to_a_full_disk_are_deleted(tmp_path: Path) -> None:
    old, _ = make_runs(tmp_path, 2)
    (old / "logs/gpu01.stream-7.log").write_text("")
    assert len(retention.prune_runs(str(tmp_path), EVERYTHING, NOW)) == 1
    assert not old.exists()


def test_a_run_whose_launcher_lives_in_another_process_stays(tmp_path: Path) -> None:
    """The lock of its record shows that it runs, although all else looks like the end."""
    old, _, _ = make_runs(tmp_path, 3)
    code = f"import fcntl,os; f=os.open({str(old / writer_lock.FILE)!r},66); fcntl.flock(f,2); print(1,flush=True); input()"
    pipe = subprocess.PIPE
    with hold_process(subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True)) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert writer_lock.read_owner(str(old))
        retention.prune_runs(str(tmp_path), RetentionBounds(count=0), NOW)
        assert old.exists()
        other.communicate("\n", timeout=20)
    assert not writer_lock.read_owner(str(old))
    retention.prune_runs(str(tmp_path), RetentionBounds(count=0), NOW)
    assert not old.exists()


def test_a_record_is_held_while_its_launcher_writes(tmp_path: Path) -> None:
    log = RunWriter(str(tmp_path / "a"), build_heading(("h1",)))
    log.begin(NOW)
    hold = writer_lock.acquire_lock(log.path, writer_lock.LockOwner(pid=1, user="u", machine="m", since=NOW))
    assert hold is not None
    assert not retention.is_over(str(tmp_path / "a"))
    hold.release_lock()
    log.close()
    assert retention.is_over(str(tmp_path / "a"))  # nothing was ever launched, and no launcher is there


@pytest.mark.parametrize(("ended", "stays"), [(None, True), ("result.json", False)])
def test_a_launched_run_without_an_end_stays_for_it_may_be_detached(
    tmp_path: Path, ended: str | None, stays: bool
) -> None:
    old, _, _ = make_runs(tmp_path, 3)
    (old / "result.json").unlink()
    (old / "order.json").write_text("{}")
    if ended:
        (old / ended).write_text("{}")
    retention.prune_runs(str(tmp_path), RetentionBounds(count=0), NOW)
    assert old.exists() == stays


@needs("root")
@pytest.mark.parametrize("below", ["", "logs"])
def test_a_file_system_mounted_over_a_record_stays(tmp_path: Path, below: str) -> None:
    old, _ = make_runs(tmp_path, 2)
    mount = f"""
    set -e
    cp -a {old} {tmp_path}/copy
    mount -t tmpfs none {old / below}
    cp -a {tmp_path}/copy/{below}/. {old / below}/
    exec {sys.executable} -c "
import os
from fanout.record import retention
retention.prune_runs({str(tmp_path)!r}, retention.RetentionBounds(count=0, seconds=0.0, bytes=0), {NOW})
print(*os.listdir({str(old / below)!r}))"
    """
    done = subprocess.run(["unshare", "-m", "bash", "-c", mount], capture_output=True, text=True, check=True)
    assert set(os.listdir(tmp_path / "copy" / below)) <= set(done.stdout.split()) | {"launcher.json"}
