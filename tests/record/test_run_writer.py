"""The record on disk: every byte at its place, private, readable again, and a full disk is a hole and no end."""

from __future__ import annotations

import io
import json
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.model import outcome
from fanout.model.actions import Stop
from fanout.model.errors import LauncherError, UsageError
from fanout.model.events import (
    ActionSent,
    Chunk,
    CleanedUp,
    Event,
    Heartbeat,
    Leftover,
    LoginOutput,
    StreamOpened,
    Tick,
)
from fanout.model.state import RunState, apply_event
from fanout.record import event_json, run_writer
from fanout.record.paths import LogFileNames, encode_name
from fanout.record.run_reader import RunReader
from fanout.record.run_writer import RunWriter
from fanout.ui.plain_view import PlainView
from tests import histories
from tests.histories import T0, History, play_events
from tests.ui.goldens import build_heading


def read_records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]


def write_run(path: Path, run: History, *, metric: str | None = None, **options: Any) -> RunWriter:
    log = RunWriter(str(path), build_heading(run.hosts), **options)
    log.begin(T0, argv=["fanout", "run"], metric=metric)
    state = run.play_events(log)
    log.finish(outcome.outcome_of(state), "the report")
    log.close()
    return log


def test_the_log_is_exactly_what_the_host_wrote(tmp_path: Path) -> None:
    run = History("h1").connect_hosts().start_hosts()
    for data in (b"a\r\xff\x00", b"", b"\x1b[2Jb\n" * 1000):
        run.add_output("h1", data)
    write_run(tmp_path / "run", run)
    assert (tmp_path / "run/logs/h1.log").read_bytes() == b"a\r\xff\x00" + b"\x1b[2Jb\n" * 1000


def test_every_stream_has_a_file_of_its_own(tmp_path: Path) -> None:
    run = History("h1").connect_hosts().start_hosts()
    run.add_events(StreamOpened(at=run.at, host="h1", stream=1, name="rank 5"))
    run.add_output("h1", b"main\n").add_output("h1", b"five\n", stream=1)
    log = write_run(tmp_path / "run", run)
    assert (tmp_path / "run/logs/h1.rank-5.log").read_bytes() == b"five\n"
    assert Path(log.get_log_path("h1")).read_bytes() == b"main\n"


def test_no_other_user_can_read_the_record(tmp_path: Path) -> None:
    write_run(tmp_path / "run", histories.good_run())
    for path in [tmp_path / "run", *(tmp_path / "run").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


@pytest.mark.parametrize("name", sorted(histories.TYPICAL))
def test_the_record_folds_to_the_same_outcome(tmp_path: Path, name: str) -> None:
    """The files hold the whole run: read back, they give the same outcome and the same bytes."""
    run = histories.TYPICAL[name]()
    write_run(tmp_path / "run", run)
    recorded = RunReader(str(tmp_path / "run"))
    assert recorded.has_outcome
    assert recorded.heading.hosts == run.hosts
    again, before = play_events(run.hosts, recorded.iter_events(), began_at=recorded.began_at), run.play_events()
    for host in run.hosts:
        assert again.hosts[host].received == before.hosts[host].received
        assert again.hosts[host].phase == before.hosts[host].phase
        assert again.hosts[host].exit == before.hosts[host].exit
    assert outcome.outcome_of(again).exit_code == outcome.outcome_of(before).exit_code
    assert again.failures == before.failures


def test_time_never_goes_back_in_the_record_of_chunks(tmp_path: Path) -> None:
    run = History("h1", "h2").connect_hosts().start_hosts()
    for _ in range(20):
        run.add_output("h1", b"x").pass_time(0.05).add_output("h2", b"y")
    write_run(tmp_path / "run", run)
    times = [entry["t"] for entry in read_records(tmp_path / "run") if entry["type"] == "chunk"]
    assert times == sorted(times)
    assert len(times) < 20  # neighbours are one record


def test_the_chunk_records_cover_every_byte_once(tmp_path: Path) -> None:
    run = History("h1").connect_hosts().start_hosts()
    for number in range(50):
        run.add_output("h1", b"z" * number).pass_time(0.03)
    write_run(tmp_path / "run", run)
    chunks = [entry for entry in read_records(tmp_path / "run") if entry["type"] == "chunk"]
    ends = [0, *(entry["offset"] + entry["length"] for entry in chunks)]
    assert [entry["offset"] for entry in chunks] == ends[:-1]
    assert ends[-1] == sum(range(50))


def test_a_full_disk_is_recorded_and_reported_once(tmp_path: Path) -> None:
    """The run goes on; the hole has a range; the other host's log is whole."""
    (tmp_path / "run/logs").mkdir(parents=True)
    os.symlink("/dev/full", tmp_path / "run/logs/h1.log")
    run = History("h1", "h2").connect_hosts().start_hosts()
    run.add_output("h1", b"1234").add_output("h2", b"fine").add_output("h1", b"5678")
    messages: list[str] = []
    log = write_run(tmp_path / "run", run, warn=messages.append)
    assert [(p.file, p.start, p.end) for p in log.record_gaps] == [("logs/h1.log", 0, 8)]
    assert len(messages) == 1
    assert "No space left" in messages[0]
    assert (tmp_path / "run/logs/h2.log").read_bytes() == b"fine"
    assert json.loads((tmp_path / "run/result.json").read_text())["problems"][0]["end"] == 8


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size``: writes are cut short there and then fail, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_that_a_full_disk_refused_are_written_when_it_has_space(tmp_path: Path) -> None:
    messages: list[str] = []
    log = RunWriter(str(tmp_path / "run"), build_heading(("h1",)), warn=messages.append)
    log.begin(T0)
    with files_of_at_most((tmp_path / "run/events.jsonl").stat().st_size + 10):
        for number in range(75):
            log.note(f"note {number}")
    assert len(messages) == 1
    log.note("room again")
    log.close()
    notes = [entry["text"] for entry in read_records(tmp_path / "run") if entry["type"] == "note"]
    assert notes == [*(f"note {number}" for number in range(75)), "room again"]
    assert log.record_gaps == ()


def test_full_disk_leaves_one_hole_a_file_and_valid_json(tmp_path: Path) -> None:
    log = RunWriter(str(tmp_path / "run"), build_heading(("h1", "h2")))
    log.begin(T0)
    state = RunState.initial(["h1", "h2"], at=T0)
    size = (tmp_path / "run/events.jsonl").stat().st_size
    with files_of_at_most(size):
        for number in range(40):
            for host in ("h1", "h2"):
                log(Chunk(at=T0 + number, host=host, stream=0, offset=size + number * 8, data=b"8 bytes\n"), state)
            log.note("x" * 200_000)
        log.finish(outcome.outcome_of(state), "the report")
        log.close()
    assert {(hole.file, hole.start, hole.end) for hole in log.record_gaps if not hole.records} >= {
        (f"logs/{host}.log", size, size + 320) for host in ("h1", "h2")
    }
    (events,) = (hole for hole in log.record_gaps if hole.file == "events.jsonl")
    assert str(events).startswith(f"events.jsonl: {events.records} records are missing at byte {size}: ")
    assert len(log.record_gaps) <= 5  # two logs, the events, result.json and report.txt
    assert [entry["type"] for entry in read_records(tmp_path / "run")] == ["run"]


def test_bytes_after_a_hole_keep_their_offset(tmp_path: Path) -> None:
    log = RunWriter(str(tmp_path / "run"), build_heading(("h1",)))
    log(Chunk(at=T0, host="h1", stream=0, offset=6, data=b"after"), RunState.initial(["h1"], at=T0))
    log.close()
    assert (tmp_path / "run/logs/h1.log").read_bytes() == b"\0" * 6 + b"after"


def test_an_unwritable_directory_is_reported_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LauncherError, match="cannot write the logs") as caught:
        RunWriter(str(tmp_path / "file/run"), build_heading(("h1",)))
    assert "--log-dir" in caught.value.hint


def test_more_streams_than_descriptors_are_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_writer, "OPEN_FILES", 2)
    hosts = tuple(f"h{n}" for n in range(9))
    run = History(*hosts).connect_hosts().start_hosts()
    for word in (b"one", b"two"):
        for host in hosts:
            run.add_output(host, word)
    write_run(tmp_path / "run", run)
    assert {path.read_bytes() for path in (tmp_path / "run/logs").iterdir()} == {b"onetwo"}


def test_result_and_report_are_there_at_the_end(tmp_path: Path) -> None:
    write_run(tmp_path / "run", histories.second_host_fails())
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert (result["v"], result["exit_code"], result["first"], result["problems"]) == (1, 3, "gpu02", [])
    assert (tmp_path / "run/report.txt").read_text() == "the report\n"
    assert [entry["type"] for entry in read_records(tmp_path / "run")][:: len(read_records(tmp_path / "run")) - 1] == [
        "run",
        "end",
    ]


@given(st.lists(st.text(max_size=150), max_size=6, unique=True))
def test_no_name_of_a_host_leaves_its_folder_or_meets_another(names: list[str]) -> None:
    files = LogFileNames(tuple(names))
    paths = [files.get_path(name, stream) for name in names for stream in (0, 1)]
    assert len({path.casefold() for path in paths}) == len(paths)
    for path in paths:
        folder, name = path.split("/")
        assert folder == "logs"
        assert not name.startswith(".")
        assert "\0" not in name
        assert len(name.encode()) < 255


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("gpu01", "gpu01"),
        ("me@10.0.0.1", "me@10.0.0.1"),
        ("rank 5", "rank-5"),
        ("../x", "%2E.%2Fx"),
        ("::1", "%3A%3A1"),
    ],
)
def test_names_stay_readable_where_they_can(name: str, file: str) -> None:
    assert encode_name(name) == file


def test_names_that_differ_in_case_alone_are_two_files() -> None:
    files = LogFileNames(("GPU", "gpu"))
    assert [files.get_path("GPU", 0), files.get_path("gpu", 0)] == ["logs/GPU.log", "logs/gpu~2.log"]


ODD = [
    LoginOutput(at=T0, host="h", data=bytes(range(256))),
    CleanedUp(
        at=T0, host="h", killed=2, left=(Leftover(pid=7, state="D", wchan="nfs", command="python x.py"),), whole=False
    ),
    ActionSent(at=T0, action=Stop(host="h", grace=40.0, reason="early-exit", why="because")),
    Heartbeat(at=T0, host="h", load={"gpu": [1, 2]}),
    Chunk(at=T0, host="h", stream=3, offset=9, data=b"bytes"),
]


@pytest.mark.parametrize("event", ODD)
def test_an_event_comes_back_from_json_as_it_was(event: Event) -> None:
    entry = event_json.encode_event(event)
    assert entry is not None
    assert event_json.decode_event(json.loads(event_json.to_json_line(entry)), lambda *_: b"bytes") == event


def test_a_tick_is_not_recorded() -> None:
    assert event_json.encode_event(Tick(at=T0)) is None


def test_reader_skips_unknown_fields_and_refuses_another_version() -> None:
    assert event_json.decode_event({"v": 1, "t": T0, "type": "new_thing"}, lambda *_: b"") is None
    entry = {"v": 1, "t": T0, "type": "disconnected", "host": "h", "why": "w", "added": 1}
    assert event_json.decode_event(entry, lambda *_: b"") is not None
    with pytest.raises(LauncherError, match="version 2"):
        event_json.decode_event({"v": 2, "t": T0, "type": "disconnected"}, lambda *_: b"")


def test_notes_and_beats_with_load_are_in_the_record(tmp_path: Path) -> None:
    log = RunWriter(str(tmp_path / "run"), build_heading(("h",)))
    state = apply_event(RunState.initial(["h"], at=T0), Tick(at=T0 + 1))
    log(Heartbeat(at=T0 + 1, host="h"), state)
    log(Heartbeat(at=T0 + 2, host="h", load={"gpu": 1}), state)
    log.note("OMP_NUM_THREADS=1 is set")
    log.close()
    assert [(entry["t"], entry["type"]) for entry in read_records(tmp_path / "run")] == [
        (T0 + 2, "heartbeat"),
        (T0 + 2, "note"),
    ]


def test_beats_of_many_hosts_share_a_write_and_a_message_writes_them(tmp_path: Path) -> None:
    log = RunWriter(str(tmp_path / "run"), build_heading(("h",)))
    state = RunState.initial(["h"], at=T0)
    for number in range(100):
        log(Heartbeat(at=T0 + number / 1000, host="h", load={"gpu": number}), state)
    assert len(read_records(tmp_path / "run")) == 1
    log.note("the load of all hosts comes before this")
    assert [entry["type"] for entry in read_records(tmp_path / "run")] == ["heartbeat"] * 100 + ["note"]
    for at in (10.0, 10.3, 10.6):
        log(Heartbeat(at=T0 + at, host="h", load={"gpu": 1}), state)
    assert len(read_records(tmp_path / "run")) == 104
    log.close()


def test_a_recorded_run_looks_as_it_did(tmp_path: Path) -> None:
    """Lines of all streams, whatever they hold, are the same from the record."""
    run = History("h1").connect_hosts().start_hosts()
    run.add_events(StreamOpened(at=run.at, host="h1", stream=1, name="rank 0"))
    run.add_output("h1", b"\xff\x00 odd\n").add_output("h1", b"rank\n", stream=1).pass_time(1.0).end_hosts(
        "h1"
    ).release_hosts("h1")
    write_run(tmp_path / "run", run)
    shown = []
    for events in (run.events, RunReader(str(tmp_path / "run")).iter_events()):
        out = io.StringIO()
        play_events(run.hosts, events, PlainView(build_heading(run.hosts), stdout=out, stderr=io.StringIO()))
        shown.append(out.getvalue())
    assert shown[0] == shown[1] != ""


def test_a_record_cut_off_in_the_middle_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    write_run(tmp_path / "run", histories.good_run())
    path = tmp_path / "run/events.jsonl"
    path.write_bytes(path.read_bytes()[:-700])
    assert len(list(RunReader(str(tmp_path / "run")).iter_events())) > 10


def test_a_directory_without_a_run_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"events\.jsonl"):
        RunReader(str(tmp_path))
    (tmp_path / "events.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match="no record of a run"):
        RunReader(str(tmp_path))
