"""The live view on terminals that close, stop or belong to another job."""

from __future__ import annotations

import io
import os
import pty
import select
import termios

import pytest

from fanout.model.events import Chunk, Tick
from fanout.ui.frame_writer import FrameWriter
from fanout.ui.live_view import LiveView
from fanout.ui.nonblocking_writer import NonblockingWriter
from tests import histories
from tests.histories import T0, History
from tests.ui.goldens import Terminal, build_heading
from tests.ui.test_live_view import Clock, show_run


def test_a_stream_that_was_closed_raises_nothing_and_does_not_end_the_run() -> None:
    closed = io.StringIO()
    live = LiveView(build_heading(("gpu01",)), stdout=closed, size=lambda: (80, 24), clock=Clock())
    closed.close()
    History("gpu01").connect_hosts().pass_time(1.0).play_events(live)
    assert not live.broken
    live.close()


def test_chunks_of_any_size_look_the_same() -> None:
    data = b"one\n\rbar 1%\rbar 2%\ntwo\nthree"
    whole = History("gpu01").connect_hosts().start_hosts().add_output("gpu01", data)
    single = History("gpu01").connect_hosts().start_hosts()
    for at in range(len(data)):
        single.add_output("gpu01", data[at : at + 1])
    screens = [show_run(run.end_hosts("gpu01"), close=True)[0].seen for run in (whole, single)]
    assert screens[0] == screens[1]
    assert isinstance(whole.events[-2], Chunk)
    assert whole.began_at == T0


def test_a_stopped_terminal_never_holds_the_run_up() -> None:
    """Ctrl-S: nothing is written, nothing waits; after Ctrl-Q all is there."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with open(theirs, "w", encoding="utf-8") as tty:
        run = History("gpu01").connect_hosts().start_hosts()
        live = LiveView(build_heading(run.hosts), stdout=tty, size=lambda: (100, 30), clock=Clock())
        termios.tcflow(theirs, termios.TCOOFF)
        state = run.add_output("gpu01", b"while stopped\n").pass_time(1.0).play_events(live)
        with pytest.raises(BlockingIOError):
            os.read(ours, 100)
        termios.tcflow(theirs, termios.TCOON)
        live(Tick(at=run.at + 1), state)
        assert select.select([ours], [], [], 10)[0]
        assert b"while stopped" in os.read(ours, 65536)
    os.close(ours)


def test_messages_about_a_host_follow_its_own_lines() -> None:
    """Folding makes lines wait, but not until after the message that their host ended."""
    terminal, _ = show_run(histories.second_host_fails())
    at = {" ".join(line.split()): number for number, line in enumerate(terminal.seen)}
    assert at["gpu02 | RuntimeError: shape mismatch: 4096 and 8192"] < at["fanout: gpu02: train.sh ended: exit 3"]


def test_a_terminal_of_another_foreground_job_is_not_wiped() -> None:
    """After a command in front that was killed, or ``&``: what a shell wrote below the block is not ours to erase."""
    out = io.StringIO()
    painter = FrameWriter(NonblockingWriter(out), colour=False, unicode=True)
    painter.write_frame("", [[("block", "")], [("of two rows", "")]], 40)
    out.write("\r\nKilled\r\n$ ")
    painter.abandon_block()
    painter.write_frame("a line\n", [], 40)
    painter.abandon_block()
    painter.write_frame("another\n", [], 40)
    terminal = Terminal(40, 10)
    terminal.feed_text(out.getvalue())
    assert [line.rstrip() for line in terminal.seen] == ["block", "of two rows", "Killed", "$", "a line", "another"]
