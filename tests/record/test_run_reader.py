"""A record read again: while it is being written, after its launcher was cut off in the middle of a line, with holes."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.model import outcome
from fanout.model.events import Chunk, Event, HostLost, StreamOpened
from fanout.model.state import Phase, RunState
from fanout.record.run_reader import RunReader
from fanout.record.run_writer import RunWriter
from tests import histories
from tests.histories import T0, History, play_events
from tests.record.test_run_writer import read_records, write_run
from tests.ui.goldens import build_heading


def join_output(events: list[Event]) -> dict[tuple[str, int], bytes]:
    """Return the bytes of every stream from the events, which must be without gap or repetition."""
    found: dict[tuple[str, int], bytes] = {}
    for event in events:
        if isinstance(event, Chunk):
            key = (event.host, event.stream)
            assert event.offset == len(found.get(key, b""))
            found[key] = found.get(key, b"") + event.data
    return found


@given(cut=st.integers(1, 3000), name=st.sampled_from(sorted(histories.TYPICAL)))
@settings(max_examples=25, deadline=None)
def test_a_truncated_record_gives_its_whole_lines_and_every_byte_in_the_files(cut: int, name: str) -> None:
    run = histories.TYPICAL[name]()
    with tempfile.TemporaryDirectory() as place:
        write_run(Path(place, "run"), run)
        path = Path(place, "run/events.jsonl")
        whole = list(RunReader(str(path.parent)).iter_events())
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(path.read_bytes()[: len(lines[0]) + cut])
        torn = list(RunReader(str(path.parent)).iter_events())
    others = [event for event in torn if not isinstance(event, Chunk)]
    assert others == [event for event in whole if not isinstance(event, Chunk)][: len(others)]
    assert join_output(torn) == join_output(whole)


@given(holes=st.sets(st.integers(1, 40), max_size=20), name=st.sampled_from(sorted(histories.TYPICAL)))
@settings(max_examples=25, deadline=None)
def test_whatever_records_are_missing_the_rest_folds(holes: set[int], name: str) -> None:
    """A disk that was full for a while leaves events that cannot follow from what is there: they are left out."""
    run = histories.TYPICAL[name]()
    with tempfile.TemporaryDirectory() as place:
        write_run(Path(place, "run"), run)
        path = Path(place, "run/events.jsonl")
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for number, line in enumerate(lines) if number not in holes))
        states = [state for _, state in RunReader(str(path.parent)).iter_states()]
    assert all(earlier.now <= later.now for earlier, later in itertools.pairwise(states))
    assert not states or outcome.outcome_of(states[-1]).exit_code in range(256)


@given(
    data=st.binary(min_size=1, max_size=2000), cuts=st.lists(st.integers(0, 2000), max_size=12), pause=st.floats(0, 0.3)
)
@settings(max_examples=30, deadline=None)
def test_any_chunking_gives_files_with_exactly_the_bytes_that_were_written(
    data: bytes, cuts: list[int], pause: float
) -> None:
    run = History("h1", "h2").connect_hosts().start_hosts()
    run.add_events(StreamOpened(at=run.at, host="h1", stream=1, name="rank 0"))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(edges):
        for host, stream in (("h1", 0), ("h1", 1), ("h2", 0)):
            run.add_output(host, data[begin:end], stream=stream)
        run.pass_time(pause)
    with tempfile.TemporaryDirectory() as place:
        write_run(Path(place, "run"), run)
        assert all(file.read_bytes() == data for file in Path(place, "run/logs").iterdir())
        again = join_output(list(RunReader(f"{place}/run").iter_events()))
    assert again == {("h1", 0): data, ("h1", 1): data, ("h2", 0): data}


def test_a_live_run_is_read_up_to_its_last_byte(tmp_path: Path) -> None:
    """The record names the place of bytes a moment after the files have them."""
    run = History("h1").connect_hosts().start_hosts().add_output("h1", b"first\n")
    log = RunWriter(str(tmp_path / "run"), build_heading(run.hosts))
    log.begin(T0)
    run.play_events(log)
    assert not any(entry["type"] == "chunk" for entry in read_records(tmp_path / "run"))
    recorded = RunReader(str(tmp_path / "run"))
    assert join_output(list(recorded.iter_events())) == {("h1", 0): b"first\n"}
    assert not recorded.has_outcome
    log.close()


def test_the_guardians_events_after_the_launchers_death_are_read_too(tmp_path: Path) -> None:
    """It writes to the log files alone."""
    run = History("h1", "h2").connect_hosts().start_hosts().add_output("h1", b"before\n")
    write_run(tmp_path / "run", run)
    path = tmp_path / "run/events.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))  # it had no time for its last words
    with (tmp_path / "run/logs/h1.log").open("ab") as file:
        file.write(b"after\n")
    (tmp_path / "run/logs/h2.log").write_bytes(b"never recorded\n")
    output = join_output(list(RunReader(str(tmp_path / "run")).iter_events()))
    assert output == {("h1", 0): b"before\nafter\n", ("h2", 0): b"never recorded\n"}


def test_a_host_that_was_abandoned_and_retried_is_read_to_its_end(tmp_path: Path) -> None:
    """By the guardian, or by ``fanout stop``, which write on in the same record."""
    run = History("h1", "h2").connect_hosts().start_hosts().pass_time(1.0)
    run.add_events(HostLost(at=run.at, host="h2", why="abandoned by the user")).end_hosts("h1").release_hosts(
        "h1"
    ).pass_time(1.0)
    write_run(tmp_path, run)
    later = (
        History("h1", "h2", at=run.at)
        .connect_hosts("h2")
        .start_hosts("h2")
        .end_hosts("h2", code=None, signal=9)
        .release_hosts("h2")
    )
    log = RunWriter(str(tmp_path), build_heading(later.hosts))
    for event in later.events:
        log(event, RunState.initial(later.hosts, at=later.at))
    log.close()
    states = list(RunReader(str(tmp_path)).iter_states())
    assert {host.name: host.phase for host in states[-1][1].all_hosts} == {"h1": Phase.RELEASED, "h2": Phase.RELEASED}
    assert states[-1][1].hosts["h2"].trouble is None


def test_the_next_launcher_begins_a_line_of_its_own_after_a_torn_one(tmp_path: Path) -> None:
    write_run(tmp_path / "run", histories.good_run())
    path = tmp_path / "run/events.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    log = RunWriter(str(tmp_path / "run"), build_heading(("gpu01", "gpu02")))
    log.note("taken up again")
    log.close()
    last, note = path.read_text().splitlines()[-2:]
    assert not last.endswith("}")
    assert "taken up again" in note
    assert play_events(("gpu01", "gpu02"), RunReader(str(tmp_path / "run")).iter_events()).is_over


@pytest.mark.parametrize("name", ["events.jsonl", "logs/gpu01.log"])
def test_missing_parts_of_a_record_are_reported_without_a_traceback(tmp_path: Path, name: str) -> None:
    write_run(tmp_path / "run", histories.good_run())
    recorded = RunReader(str(tmp_path / "run"))
    (tmp_path / "run" / name).unlink()
    with pytest.raises(Exception, match="No such file") as caught:
        list(recorded.iter_events())
    assert type(caught.value).__module__ == "fanout.model.errors"
    shutil.rmtree(tmp_path / "run")
