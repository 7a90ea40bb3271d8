"""Records of attempts: they are inside the record of the run, and commands find the last one or the named one."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from fanout.model.attempt_record import AttemptRecord, FirstCause, NextAction
from fanout.model.errors import UsageError
from fanout.record import follow, ownership, recorded_attempts, writer_lock
from fanout.record.index import find_last_attempt, has_ended
from fanout.record.run_lookup import find_run
from fanout.record.run_reader import RunReader
from tests.record.test_retention import make_runs


def add_attempt(run: Path, number: int) -> Path:
    """Add the record of a later attempt, as a copy of the run's own."""
    path = run / f"attempt-{number}"
    shutil.copytree(run, path, ignore=shutil.ignore_patterns("attempt-*"))
    first, _, rest = (path / "events.jsonl").read_text().partition("\n")
    (path / "events.jsonl").write_text(json.dumps({**json.loads(first), "run": f"{run.name}.{number}"}) + "\n" + rest)
    return path


def build_record(number: int, following: NextAction) -> AttemptRecord:
    return AttemptRecord(
        attempt=number,
        run="r",
        hosts=("gpu01",),
        exit_code=1,
        began=1.0,
        started=2.0,
        failed=3.0,
        ended=4.0,
        first_step_at=None,
        last_step_at=None,
        steps=None,
        cause=FirstCause(signature="exit", host="gpu01", confidence="high", text="gpu01: exit 1"),
        lost=(),
        next=following,
    )


RESTART = NextAction(action="restart", changes="on the same hosts", used=1, until=14.0, replaced=(("a", "b"),))
END = NextAction(action="end", reason="requested", why="SIGINT before attempt 1")


def write_records(run: Path, *records: AttemptRecord, damage: str = "") -> None:
    text = "".join(json.dumps(record.to_dict()) + "\n" for record in records)
    (run / "attempts.jsonl").write_text(text + damage)


def hold_record(path: Path) -> writer_lock.RecordLock:
    owner = writer_lock.LockOwner(pid=4242, user="ann", machine="vm", since=0.0)
    lock = writer_lock.acquire_lock(str(path), owner)
    assert lock is not None
    return lock


def test_later_line_about_an_attempt_replaces_the_earlier_one_and_damage_is_left_out(tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path, 1)
    assert recorded_attempts.read_attempt_records(str(run)) == []
    write_records(run, build_record(0, RESTART), build_record(0, END), damage='{"attempt": 1\n{"attempt": 2}\n')
    assert recorded_attempts.read_attempt_records(str(run)) == [build_record(0, END)]


def test_restart_is_pending_while_the_launcher_lives(tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path, 1)
    write_records(run, build_record(0, RESTART))
    assert recorded_attempts.read_pending_restart(str(run)) is None
    lock = hold_record(run)
    assert recorded_attempts.read_pending_restart(str(run)) == build_record(0, RESTART)
    write_records(run, build_record(0, RESTART), build_record(0, END))
    assert recorded_attempts.read_pending_restart(str(run)) is None
    lock.release_lock()


def test_follower_of_an_attempt_waits_for_the_next_one(tmp_path: Path) -> None:
    """The record of the attempt may have its end before the next attempt has a record."""
    (run,) = make_runs(tmp_path, 1)
    write_records(run, build_record(0, RESTART))
    lock = hold_record(run)
    events = follow.follow_events(RunReader(str(run)))
    for _ in range(3):
        list(itertools.takewhile(lambda event: event is not None, events))
        assert next(events, "ended") is None
    following = add_attempt(run, 1)
    assert list(events) == []
    assert recorded_attempts.find_next_attempt(str(run)) == str(following)
    assert recorded_attempts.find_next_attempt(str(following)) is None
    lock.release_lock()


def test_follower_of_a_dead_launcher_ends(tmp_path: Path) -> None:
    (run,) = make_runs(tmp_path, 1)
    write_records(run, build_record(0, RESTART))
    assert list(follow.follow_events(RunReader(str(run))))[-1] is not None


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


def test_check_of_the_next_attempt_leaves_the_launched_one_in_charge(tmp_path: Path) -> None:
    """Only a launched attempt has the data to stop it; the launcher holds the record of each attempt."""
    (run,) = make_runs(tmp_path, 1)
    (run / "order.json").write_text("{}")
    following = add_attempt(run, 1)
    (following / "order.json").unlink()
    assert recorded_attempts.find_launched_attempt(str(following)) == str(run)
    (following / "order.json").write_text("{}")
    assert recorded_attempts.find_launched_attempt(str(following)) == str(following)
    assert recorded_attempts.find_launched_attempt(str(run)) == str(run)
