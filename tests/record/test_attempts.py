"""Records of attempts: they are inside the record of the run, and commands find the last one or the named one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fanout.model.errors import UsageError
from fanout.record import ownership
from fanout.record.index import find_last_attempt, has_ended
from fanout.record.run_lookup import find_run
from tests.record.test_retention import make_runs


def add_attempt(run: Path, number: int) -> Path:
    """Add the record of a later attempt, as a copy of the run's own."""
    path = run / f"attempt-{number}"
    shutil.copytree(run, path, ignore=shutil.ignore_patterns("attempt-*"))
    first, _, rest = (path / "events.jsonl").read_text().partition("\n")
    (path / "events.jsonl").write_text(json.dumps({**json.loads(first), "run": f"{run.name}.{number}"}) + "\n" + rest)
    return path


def test_run_means_its_last_attempt_and_a_number_any_of_them(tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path, 1)
    first, second = add_attempt(run, 1), add_attempt(run, 2)
    words = ("latest", run.name, f"{run.name}.0", f"{run.name}.1", f"{run.name[-6:]}.2")
    assert [find_run(word, str(tmp_path)) for word in words] == list(map(str, (second, second, run, first, second)))
    with pytest.raises(UsageError, match="no attempt 3"):
        find_run(f"{run.name}.3", str(tmp_path))


def test_run_has_ended_when_its_last_attempt_has(tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path, 1)
    assert has_ended(str(run))
    last = add_attempt(run, 1)
    (last / "order.json").write_text("{}")
    (last / "result.json").unlink(missing_ok=True)
    assert find_last_attempt(str(run)) == str(last)
    assert not has_ended(str(run))


def test_deletion_of_a_run_deletes_its_attempts_and_nothing_else(tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path, 1)
    add_attempt(run, 1)
    own = add_attempt(run, 2) / "notes.txt"
    own.write_text("a file of the user")
    (run / "attempt-x").mkdir()
    assert ownership.delete_record(str(tmp_path), run.name) == ["attempt-2", "attempt-x"]
    assert own.exists()
    assert not (run / "attempt-1").exists()


def test_attempt_of_another_run_is_not_deleted(tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path, 1)
    stranger = add_attempt(run, 1)
    events = (stranger / "events.jsonl").read_text()
    (stranger / "events.jsonl").write_text(events.replace(f"{run.name}.1", f"{run.name}.7"))
    ownership.delete_record(str(tmp_path), run.name)
    assert (stranger / "events.jsonl").exists()
