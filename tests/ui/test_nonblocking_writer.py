"""Nonblocking writer: a run never waits for a slow reader; every lost line is counted."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from fanout.ui import nonblocking_writer as outlets
from fanout.ui.json_lines import JsonLines
from fanout.ui.live_view import LiveView
from fanout.ui.nonblocking_writer import NonblockingWriter
from fanout.ui.plain_view import PlainView
from tests.histories import History
from tests.processes import join_threads
from tests.ui.goldens import build_heading

FRAME = "".join(f"line {number} with some words\n" for number in range(20_000))  # more than any pipe or terminal holds


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    ours, theirs = os.pipe()
    with open(theirs, "w", encoding="utf-8") as stream:
        yield ours, stream
    os.close(ours)


@pytest.fixture
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlets, "MAX_BUFFER_BYTES", 100_000)
    monkeypatch.setattr(outlets, "STUCK_SECONDS", 0.0)


@contextmanager
def read_until(words: bytes, descriptor: int, piece: int = 65536) -> Iterator[bytearray]:
    """Return all output up to these words, which may come in several reads; whole when the block is left."""
    found = bytearray()

    def read_words() -> None:
        while words not in found[-len(words) - piece :]:
            found.extend(os.read(descriptor, piece))

    reader = threading.Thread(target=read_words)
    reader.start()
    yield found
    join_threads(reader)


def read_everything(descriptor: int, outlet: NonblockingWriter) -> bytes:
    """Return all output while the writer is closed in a reader's presence."""
    with read_until(b"the end\n", descriptor) as found:
        outlet.write("the end\n")
        outlet.close()
    return bytes(found)


def test_a_pipe_without_a_reader_does_not_block_and_gets_everything_later(pipe: tuple[int, TextIO]) -> None:
    outlet = NonblockingWriter(pipe[1])
    outlet.write("before\n")
    outlet.write(FRAME)
    assert outlet.has_pending
    assert read_everything(pipe[0], outlet) == f"before\n{FRAME}the end\n".encode()


@pytest.mark.parametrize("named", [True, False])
def test_a_terminal_gets_a_frame_in_pieces_and_whole(named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it did not take at first is neither lost nor repeated; also where it cannot be opened once more."""

    def raise_no_device(descriptor: int) -> str:
        raise OSError(errno.ENODEV, "no name here")

    if not named:
        monkeypatch.setattr(os, "ttyname", raise_no_device)
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    with open(theirs, "w", encoding="utf-8") as stream:
        outlet = NonblockingWriter(stream)
        outlet.write(FRAME)
        assert outlet.has_pending
        assert not outlet.is_ready
        assert read_everything(ours, outlet) == f"{FRAME}the end\n".encode()
    os.close(ours)


@pytest.mark.usefixtures("little_patience")
def test_stalled_reader_misses_lines_and_gets_their_count(pipe: tuple[int, TextIO]) -> None:
    """Every line is either read or counted, and the reader who comes back gets new ones."""
    outlet = NonblockingWriter(pipe[1])
    for number in range(20_000):
        outlet.write(f"{number} and some words\n")
    assert outlet.take_dropped_count() == 0  # not while there is no room to say so
    read = b""
    while outlet.has_pending:
        read += os.read(pipe[0], 65536)
        outlet.send_pending()
    missed = outlet.take_dropped_count()
    assert missed > 0
    assert outlet.take_dropped_count() == 0
    read += read_everything(pipe[0], outlet)
    assert read.count(b"\n") + missed == 20_001
    assert read.endswith(b"\nthe end\n")


def test_slow_reader_gets_every_line(pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the room he is waited for."""
    monkeypatch.setattr(outlets, "MAX_BUFFER_BYTES", 1000)
    monkeypatch.setattr(outlets, "STUCK_SECONDS", 60.0)
    outlet = NonblockingWriter(pipe[1])
    with read_until(b"19999 and some words\n", pipe[0], 4096) as found:
        for number in range(20_000):
            outlet.write(f"{number} and some words\n")
        outlet.close()
    assert found.count(b"\n") == 20_000
    assert outlet.take_dropped_count() == 0


def test_closed_reader_is_noticed() -> None:
    ours, theirs = os.pipe()
    with open(theirs, "w", encoding="utf-8") as stream:
        outlet = NonblockingWriter(stream)
        os.close(ours)
        outlet.write("x\n")
        assert outlet.broken
        outlet.write("y\n")
        outlet.close()
    outlet = NonblockingWriter(io.StringIO())  # a stream without a file takes everything at once
    outlet.write("z\n")
    assert not outlet.has_pending
    assert outlet.is_ready


def long_run(times: int) -> History:
    run = History("gpu01").connect_hosts().start_hosts()
    for _ in range(times):
        run.add_output("gpu01", FRAME.encode()).pass_time(0.1)
    return run


@pytest.mark.usefixtures("little_patience")
def test_a_run_does_not_wait_for_an_idle_pager(pipe: tuple[int, TextIO]) -> None:
    """Plain view: the note about omitted lines comes as soon as the reader reads again."""
    err = io.StringIO()
    view = PlainView(build_heading(("gpu01",)), stdout=pipe[1], stderr=err, waits=False)
    long_run(5).play_events(view)  # returns, although there is no reader
    reader = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(pipe[0], 1 << 16), b"")])
    reader.start()
    view.close()
    pipe[1].close()
    join_threads(reader)
    assert (
        "lines dropped: the reader of this output was blocked; all of them are in /home/me/runs/7f3a" in err.getvalue()
    )


@pytest.mark.usefixtures("little_patience")
def test_json_output_has_a_note_about_omitted_lines(pipe: tuple[int, TextIO]) -> None:
    """As an object of its own, where they are missing."""
    view = JsonLines(build_heading(("gpu01",)), stdout=pipe[1], waits=False)
    History("gpu01").connect_hosts().start_hosts().add_output("gpu01", FRAME.encode()).add_output(
        "gpu01", FRAME.encode()
    ).play_events(view)
    read = b""
    while view._out.has_pending:
        read += os.read(pipe[0], 65536)
        view._out.send_pending()
    view.note("last")
    view.close()
    read += os.read(pipe[0], 65536)
    objects = [json.loads(line) for line in read.splitlines()]
    assert [each["text"] for each in objects[-2:]][1] == "last"
    assert "dropped: the reader of this output was blocked" in objects[-2]["text"]


def test_a_terminal_that_stops_in_the_middle_of_a_frame_holds_nothing_up() -> None:
    """The live view: frames that are too much for it are not drawn, and the lines in them are counted."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    with open(theirs, "w", encoding="utf-8") as stream:
        live = LiveView(build_heading(("gpu01",)), stdout=stream, size=lambda: (100, 30))
        long_run(50).play_events(live)  # returns, although there is no reader
        with read_until(b"log not shown", ours) as found:
            live.note("log not shown")
            live.close()
        assert b" lines not shown, kept in /home/me/runs/7f3a" in found
    os.close(ours)
