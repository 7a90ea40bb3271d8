"""Which recorded runs are kept: the bounds, and that whatever may still run is never touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import holder
from fanout.errors import UsageError
from fanout.verbs import keeping
from fanout.verbs.keeping import Keep, Run
from fanout.views.logdir import LogDir
from tests import histories
from tests.views.goldens import heading
from tests.views.test_logdir import keep

DAY = 86400.0
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("30d,100,5GB", Keep(seconds=30 * DAY, count=100, bytes=5_000_000_000)),
        ("all", Keep()),
        ("12h", Keep(seconds=43200.0)),
        ("1.5w, 500MB", Keep(seconds=10.5 * DAY, bytes=500_000_000)),
        ("30", Keep(count=30)),
    ],
)
def test_bounds_are_read_in_any_order(text: str, bounds: Keep) -> None:
    assert keeping.parse(text) == bounds


@pytest.mark.parametrize("text", ["", "30x", "-3d", "1.5", "3d,4d", "5GB,,", "nan"])
def test_what_is_no_bound_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(UsageError, match="--keep") as caught:
        keeping.parse(text)
    assert "--keep" in caught.value.hint


runs = st.lists(
    st.builds(
        Run,
        path=st.uuids().map(str),
        at=st.floats(0, 100).map(lambda days: NOW - days * DAY),
        bytes=st.integers(0, 100),
        over=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda run: run.at,  # of two written at the same moment neither is the older one
)
bounds = st.builds(
    Keep,
    seconds=st.none() | st.floats(0, 100 * DAY),
    count=st.none() | st.integers(0, 12),
    bytes=st.none() | st.integers(0, 500),
)


@given(runs=runs, keep=bounds)
def test_what_may_still_run_is_never_superfluous_and_the_last_one_stays(runs: list[Run], keep: Keep) -> None:
    gone = keeping.superfluous(runs, keep, NOW)
    assert all(run.over for run in gone)
    over = [run for run in runs if run.over]
    assert not over or max(over, key=lambda run: run.at) not in gone
    assert keep != Keep() or not gone


@given(runs=runs, keep=bounds)
def test_what_is_left_is_within_the_bounds_but_for_what_must_stay(runs: list[Run], keep: Keep) -> None:
    gone = keeping.superfluous(runs, keep, NOW)
    left = sorted((run for run in runs if run not in gone), key=lambda run: run.at, reverse=True)
    free = [run for run in left if run.over][1:]
    counted = left[: left.index(free[-1]) + 1] if free else []
    assert keep.count is None or len(counted) <= keep.count
    assert keep.bytes is None or sum(run.bytes for run in counted) <= keep.bytes
    assert keep.seconds is None or all(NOW - run.at <= keep.seconds for run in free)


def shelf(root: Path, *names: str) -> list[Path]:
    """Ended runs, the first the oldest."""
    for number, name in enumerate(names):
        keep(root / name, histories.good_run())
        os.utime(root / name / "events.jsonl", (NOW - 100 + number, NOW - 100 + number))
    return [root / name for name in names]


def test_old_runs_go_and_it_is_said_in_one_line(tmp_path: Path) -> None:
    first, second, third = shelf(tmp_path, "a", "b", "c")
    said = keeping.prune(str(tmp_path), Keep(count=1), NOW)
    assert said.startswith("removed the record of 2 old runs (")
    assert "\n" not in said
    assert (first.exists(), second.exists(), third.exists()) == (False, False, True)
    assert keeping.prune(str(tmp_path), Keep(count=1), NOW) == ""


def test_a_run_whose_launcher_lives_in_another_process_stays(tmp_path: Path) -> None:
    """Its lock says so, although all else looks like the end."""
    old, _, _ = shelf(tmp_path, "a", "b", "c")
    code = f"import fcntl,os; f=os.open({str(old / holder.FILE)!r},66); fcntl.flock(f,2); print(1,flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert holder.of(str(old))
        keeping.prune(str(tmp_path), Keep(count=0), NOW)
        assert old.exists()
        other.communicate("\n")
    assert not holder.of(str(old))
    keeping.prune(str(tmp_path), Keep(count=0), NOW)
    assert not old.exists()


def test_our_own_record_is_held_while_it_is_open(tmp_path: Path) -> None:
    log = LogDir(str(tmp_path / "a"), heading(("h1",)))
    log.begin(NOW)
    hold = holder.take(log.path, holder.Holder(pid=1, user="u", machine="m", since=NOW))
    assert hold is not None
    assert not keeping.is_over(str(tmp_path / "a"))
    hold.let_go()
    log.close()
    assert keeping.is_over(str(tmp_path / "a"))  # nothing was ever launched, and nobody is there who would


@pytest.mark.parametrize(("ended", "stays"), [(None, True), ("result.json", False)])
def test_a_launched_run_without_an_end_stays_for_it_may_be_detached(
    tmp_path: Path, ended: str | None, stays: bool
) -> None:
    old, _, _ = shelf(tmp_path, "a", "b", "c")
    (old / "result.json").unlink()
    (old / "order.json").write_text("{}")
    if ended:
        (old / ended).write_text("{}")
    keeping.prune(str(tmp_path), Keep(count=0), NOW)
    assert old.exists() == stays


def test_what_is_no_run_of_ours_is_not_touched(tmp_path: Path) -> None:
    shelf(tmp_path, "a", "b")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    keeping.prune(str(tmp_path), Keep(count=0, seconds=0.0), NOW)
    assert (tmp_path / "mine/notes.txt").exists()
    assert (tmp_path / "b").exists()
