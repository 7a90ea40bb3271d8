"""Attach shows the last earlier events, then the new ones; the hang reporter reports from then on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fanout.model.events import Event, StreamOpened, Tick
from fanout.model.outcome import RunOutcome
from fanout.model.run_info import RunInfo
from fanout.model.state import RunState
from fanout.record import follow, writer_lock
from fanout.record.run_reader import RunReader
from fanout.record.run_writer import RunWriter
from tests.histories import History


class Viewer:
    """A view that keeps what it is shown, and stops looking at a tick once ``until`` events have come."""

    broken = False

    def __init__(self) -> None:
        self.shown: list[Event] = []

    def __call__(self, event: Event, state: RunState) -> None:
        if not isinstance(event, Tick):
            self.shown.append(event)

    def begin(self, at: float, **facts: Any) -> None: ...

    def begin_attempt(self, heading: RunInfo) -> None: ...

    def note(self, text: str) -> None: ...

    def finish(self, outcome: RunOutcome, text: str = "", verdict: Mapping[str, Any] | None = None) -> None: ...

    def close(self) -> None: ...


class MessageCollector(Viewer):
    spoke_at: int | None = None  # how many events it had seen when it was to speak

    def start_reporting(self, state: RunState) -> None:
        assert self.spoke_at is None
        self.spoke_at = len(self.shown)


def record_history(path: Path, history: History, damage: bytes = b"") -> RunWriter:
    record = RunWriter(str(path), RunInfo(run_id="r1", title="t", hosts=history.hosts))
    record.begin(history.began_at)
    write_history(record, history)
    if damage:
        with open(path / "events.jsonl", "ab") as file:
            file.write(damage)
    return record


def write_history(record: RunWriter, history: History) -> None:
    state = RunState.initial(history.hosts, at=history.began_at)
    for event in history.events:
        record(event, state)


def watch_record(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Viewer, MessageCollector]:
    monkeypatch.setattr(follow, "GUARDIAN_SECONDS", 0.0)
    viewer, reporter = Viewer(), MessageCollector()
    follow.follow_record(RunReader(str(path)), viewer, reporters=[reporter])
    return viewer, reporter


def test_a_viewer_from_the_start_gets_every_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reporters report from the first event on, although the record had none at the start."""
    record = record_history(tmp_path / "run", History("a"))
    later = History("a").connect_hosts().start_hosts()
    viewer, reporter = Viewer(), MessageCollector()
    looked = 0

    def has_left() -> bool:
        nonlocal looked
        looked += 1
        if looked == 1:  # after the first tick
            write_history(record, later)
        return looked > 200 or len(viewer.shown) == len(later.events)

    hold = writer_lock.acquire_lock(record.path, writer_lock.LockOwner(pid=1, user="u", machine="m", since=0.0))
    assert hold is not None
    follow.follow_record(RunReader(record.path), viewer, has_left, reporters=[reporter])
    hold.release_lock()
    assert reporter.spoke_at == 0
    assert len(viewer.shown) == len(later.events)


@pytest.mark.parametrize("damage", [b"", b'{"v":1,"t":5,"type":"what is this"}\n', b"\xff{]\n"])
def test_late_viewer_gets_the_end_of_every_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    history = History("a").connect_hosts().start_hosts()
    history.add_events(StreamOpened(at=history.at, host="a", stream=1, name="rank 0"))
    for number in range(60):
        history.pass_time(1.0).add_output("a", b"step %d\n" % number)
    record_history(tmp_path / "run", history, damage).close()
    viewer, reporter = watch_record(tmp_path / "run", monkeypatch)
    assert sum(isinstance(event, StreamOpened) for event in viewer.shown) == 1
    assert 0 < len(viewer.shown) <= follow.SHOWN_BEFORE + 1
    assert reporter.spoke_at == len(reporter.shown)
