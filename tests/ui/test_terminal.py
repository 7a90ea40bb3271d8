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
