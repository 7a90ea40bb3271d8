"""The id and the directory of a new run: many launches at the same moment never share one."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from fanout.model.errors import LauncherError
from fanout.record import index
from tests.processes import join_threads


def test_a_hundred_launches_in_one_second_draw_a_hundred_ids() -> None:
    ids = {index.make_run_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert {len(each.split("-")[-1]) for each in ids} == {12}


def test_ids_sort_by_time_also_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """``fanout stop`` without a run means the newest one, and a script may start two runs in one second."""
    clock = iter(range(1_790_000_000 * 10**9, 1_790_000_002 * 10**9, 20_000))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    ids = [index.make_run_id() for _ in range(100_000)]
    assert ids == sorted(ids)


def test_concurrent_creation_of_one_directory_has_one_winner(tmp_path: Path) -> None:
    """Two launches that drew the same id: one of them has to draw again."""
    path, made = str(tmp_path / "runs" / "20260101-000000-aa"), []
    start = threading.Barrier(100)

    def create_directory() -> None:
        start.wait(20)
        made.append(index.create_run_directory(path))

    threads = [threading.Thread(target=create_directory) for _ in range(100)]
    for thread in threads:
        thread.start()
    join_threads(*threads)
    assert sorted(made) == [False] * 99 + [True]


def test_unwritable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LauncherError, match="file/runs"):
        index.create_run_directory(str(tmp_path / "file" / "runs" / "r1"))
