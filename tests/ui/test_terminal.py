"""A real run on a real terminal: its keys work, and however it ends the terminal is as it was before."""

from __future__ import annotations

import os
import pty
import signal
import termios
from pathlib import Path

import pytest

from fanout.ui.keyboard import Keyboard
from tests.ui.terminals import Watched, fanout_on_a_terminal

FOREVER = "echo up; exec sleep 600"
CURSOR_HIDDEN, CURSOR_SHOWN = b"\x1b[?25l", b"\x1b[?25h"


PASTES_MARKED, PASTES_PLAIN = b"\x1b[?2004h", b"\x1b[?2004l"


def is_sane(run: Watched) -> bool:
    cursor = run.raw.rfind(CURSOR_SHOWN) > run.raw.rfind(CURSOR_HIDDEN)
    return run.cooked and cursor and run.raw.rfind(PASTES_PLAIN) >= run.raw.rfind(PASTES_MARKED)


@pytest.mark.process
@pytest.mark.parametrize(
    ("script", "number", "code"),
    [
        ("echo up; exit 3", None, 3),
        (FOREVER, signal.SIGTERM, 143),
        (FOREVER, signal.SIGHUP, 129),
    ],
)
def test_the_terminal_is_as_it_was_after_every_kind_of_end(
    tmp_path: Path, script: str, number: int | None, code: int
) -> None:
    with fanout_on_a_terminal(tmp_path, script) as run:
        run.wait_for_text(" up\r\n")
        if number is not None:
            run.wait_for_text("^C stop")  # the keys are there: the terminal is in our hands
            assert not run.cooked
            run.send_signal(number)
        run.wait_for_word(b"ended")
        assert run.told == b"ended %d\n" % code
        assert is_sane(run)
        assert not any("fanout  run" in line for line in run.screen.seen)


@pytest.mark.process
def test_keys_work_and_ctrl_z_gives_the_terminal_back_until_it_is_continued(tmp_path: Path) -> None:
    with fanout_on_a_terminal(tmp_path, "echo up; echo ValueError: odd; exec sleep 600") as run:
        run.wait_for_text("^C stop")
        run.wait_for_text("odd")
        run.press_keys("\x1b[<0;10;5M?")  # a mouse report means nothing
        run.wait_for_text("any key closes this")
        run.press_keys("x")
        run.wait_for_new_text("^C stop")
        run.press_keys("e")
        run.wait_for_text("last error, from localhost")
        run.press_keys("p")
        run.wait_for_text("nothing has failed so far")
        run.press_keys("x")
        run.wait_for_new_text("^C stop")
        run.press_keys("r")
        run.wait_for_text("such as 0,8-15: _")
        run.press_keys("1,0\x7f3")  # a burst of characters is a paste, which is typed into the entry
        run.wait_for_text("0,8-15: 1,03_")
        run.wait_for_new_text("1,03_")  # a later frame: the keys after it are no part of the burst
        run.press_keys("\r")
        run.wait_for_text("but this run has rank 0 only")
        run.press_keys("\x1a")
        run.wait_for_word(b"stopped")
        assert is_sane(run)
        assert not any("fanout  run" in line for line in run.screen.seen)  # room for the shell's prompt
        run.raw = b""
        run.resume_process()
        run.wait_for_text("^C stop")
        run.press_keys("a")
        run.wait_for_text("showing every line")
        run.press_keys("\x03")
        run.wait_for_word(b"ended")
        assert run.told == b"ended 130\n"
        assert is_sane(run)


def test_foreground_group_of_another_job_is_left_alone() -> None:
    """In the background, or on another user's terminal, nothing is read and nothing is set."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    handlers = [signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGCONT)]
    keyboard = Keyboard(slave)
    os.write(master, b"a\n")
    assert keyboard.read_keys() == []
    keyboard.close()
    keyboard.close()
    assert termios.tcgetattr(slave) == before
    assert [signal.getsignal(number) for number in (signal.SIGTSTP, signal.SIGCONT)] == handlers
    os.close(master)
    os.close(slave)


TICKS = "i=0; while sleep 0.2; do i=$((i+1)); echo tick $i; done"


@pytest.mark.process
def test_filter_pause_host_stacks_and_stop_on_a_real_terminal(tmp_path: Path) -> None:
    """A paste that holds the keys of detach and quit changes nothing."""
    with fanout_on_a_terminal(tmp_path, TICKS) as run:
        run.wait_for_text(" tick 2")
        run.press_keys("\x1b[200~d\nq\x1b[201~")
        run.wait_for_text("pasted text is ignored")
        run.press_keys("/")
        run.wait_for_text("text to show: _")
        run.press_keys("k")
        run.wait_for_text("text to show: k_")
        run.press_keys("\r")
        run.wait_for_text("recent lines with 'k'")
        run.press_keys("\x1b")
        run.wait_for_new_text("^C stop  d detach")  # the hint without "Esc back": the filter is cleared
        run.press_keys(" ")
        run.wait_for_text(" new lines")
        run.press_keys(" ")
        run.wait_for_new_text(" tick ")
        run.press_keys("\x1b[B")
        run.wait_for_text(">●")
        run.press_keys("\r")
        run.wait_for_text("host localhost")
        run.press_keys("s")
        run.wait_for_text("no rank sent its stack")
        run.press_keys("x")
        run.wait_for_new_text("q quit")
        run.press_keys("q")
        run.wait_for_text("leave?")
        run.press_keys("s")
        run.wait_for_word(b"ended")
        assert run.told == b"ended 130\n"
        assert is_sane(run)


@pytest.mark.process
def test_replay_on_a_real_terminal_takes_its_keys_and_ends_on_the_report(tmp_path: Path) -> None:
    with fanout_on_a_terminal(tmp_path, "for i in 1 2 3; do echo step $i/3; sleep 0.5; done") as run:
        run.wait_for_word(b"ended")
    with fanout_on_a_terminal(tmp_path, "", verb=("replay", "--speed", "0.01")) as played:
        played.wait_for_text("REPLAY ×0.01")
        played.press_keys(" ")
        played.wait_for_text("REPLAY ×0.01 paused")
        played.press_keys("]")
        played.wait_for_text("started on all hosts")
        played.press_keys("=")
        played.wait_for_text("REPLAY ×0.125 paused")  # a speed below the slowest of the keys goes to it
        played.press_keys("\x1b[F")
        played.press_keys(" ")
        played.wait_for_word(b"ended")
        assert played.told == b"ended 0\n"
        assert is_sane(played)
        assert any("succeeded" in line for line in played.screen.seen)
    with fanout_on_a_terminal(tmp_path, "", verb=("replay", "--speed", "0.01")) as left:
        left.wait_for_text("REPLAY ×0.01")
        left.press_keys("q")
        left.wait_for_text("left the replay")
        left.wait_for_word(b"ended")
        assert left.told == b"ended 0\n"
