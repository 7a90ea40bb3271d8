"""``fanout logs`` on a terminal: a log that exceeds the screen is shown by the user's pager."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.histories import History
from tests.record.test_run_writer import write_run
from tests.ui.terminals import SIZE, fanout_on_a_terminal, run_fanout

pytestmark = pytest.mark.process

LINES = 20_000  # more than a pipe holds: a pager that the user closes has not read all of them
MARK = "pager was started"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project with two runs: ``long`` exceeds every screen, ``short`` fits. No pager is set."""
    for name in ("PAGER", "FANOUT_PAGER", "LESS"):
        monkeypatch.delenv(name, raising=False)
    for name, count in (("long", LINES), ("short", SIZE[1] - 2)):
        run = History("gpu01", "gpu02").connect_hosts().start_hosts()
        run.add_output("gpu01", b"".join(b"line %d of all\n" % number for number in range(1, count + 1)))
        write_run(tmp_path / "state/fanout/runs" / name, run.end_hosts("gpu01", "gpu02"))
    return tmp_path


def test_long_log_opens_less_and_closing_it_is_no_error(project: Path) -> None:
    """Colors stay, and q ends less before it has read the whole log."""
    with fanout_on_a_terminal(project, "", verb=("logs", "long")) as terminal:
        terminal.wait_for_text("line 20 of all")
        assert "line 1 of all" in terminal.screen.text
        assert b"\x1b[" in terminal.raw.partition(b"line 1 of all")[0]
        terminal.press_keys("q")
        terminal.wait_for_word(b"ended")
        assert b"ended 0" in terminal.told
        assert b"fanout:" not in terminal.raw


def test_ctrl_c_belongs_to_the_pager(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fanout waits until the user closes the pager."""
    pager = "trap 'echo interrupted' INT; head -n 1; until read word </dev/tty; do :; done; echo got $word"
    monkeypatch.setenv("PAGER", pager)
    with fanout_on_a_terminal(project, "", verb=("logs", "long")) as terminal:
        terminal.wait_for_text("line 1 of all")
        terminal.press_keys("\x03")
        terminal.wait_for_new_text("interrupted")
        terminal.press_keys("enough\n")
        terminal.wait_for_text("got enough")
        terminal.wait_for_word(b"ended")
        assert b"ended 0" in terminal.told


def test_pager_is_the_one_that_the_user_names(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FANOUT_PAGER precedes PAGER. It may be a command line of a shell, and it gets all lines."""
    monkeypatch.setenv("PAGER", "false")
    monkeypatch.setenv("FANOUT_PAGER", f"echo {MARK}; tail -n 1 | tr a-z A-Z")
    with fanout_on_a_terminal(project, "", verb=("logs", "long")) as terminal:
        terminal.wait_for_word(b"ended")
        assert b"ended 0" in terminal.told
        terminal.wait_for_text(MARK)
        terminal.wait_for_text(f"LINE {LINES} OF ALL")


@pytest.mark.parametrize(
    ("words", "variable", "value"),
    [
        (("short",), "PAGER", f"echo {MARK}; cat"),
        (("long", "-n", "5"), "PAGER", f"echo {MARK}; cat"),
        (("long", "--no-pager"), "PAGER", f"echo {MARK}; cat"),
        (("long", "-f"), "PAGER", f"echo {MARK}; cat"),
        (("long",), "PAGER", "cat"),
        (("long",), "FANOUT_PAGER", ""),
    ],
)
def test_lines_are_printed_without_a_pager(
    project: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], variable: str, value: str
) -> None:
    """The log fits the screen, or the user wants no pager."""
    monkeypatch.setenv(variable, value)
    last = f"line {LINES} of all" if words[0] == "long" else f"line {SIZE[1] - 2} of all"
    with fanout_on_a_terminal(project, "", verb=("logs", *words)) as terminal:
        terminal.wait_for_text(last)
        terminal.wait_for_word(b"ended")
        assert b"ended 0" in terminal.told
        assert MARK.encode() not in terminal.raw


def test_pipe_gets_all_lines(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", f"echo {MARK}; cat")
    done = run_fanout(project, "logs", "long")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, LINES)
    assert MARK not in done.stdout


def test_pager_that_is_not_installed_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "no-such-pager -R")
    with fanout_on_a_terminal(project, "", verb=("logs", "long")) as terminal:
        terminal.wait_for_text("PAGER=no-such-pager -R: not found")
        terminal.wait_for_text("fanout logs --no-pager")
        terminal.wait_for_word(b"ended 2")
