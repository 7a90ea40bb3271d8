"""The key ``d``, and the process that waits in the shell's foreground: a run is left, and nothing of it is lost."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from fanout.record import writer_lock
from fanout.run.foreground import SignalCounts
from tests.ui.terminals import Watched, fanout_on_a_terminal, run_fanout

#: print numbers until the test ends it, so that bytes are under way when the key is pressed
COUNTING = 'n=0\nuntil [ -e go ]; do n=$((n+1)); echo "line $n"; sleep 0.002; done\necho "last $n"\nexit 7\n'
FOREVER = "trap 'echo told; exit 9' TERM\necho up\nwhile :; do sleep 0.05; done"

pytestmark = pytest.mark.process


def find_record(project: Path) -> Path:
    (path,) = (project / "state" / "fanout" / "runs").iterdir()
    return path


def find_launcher(project: Path) -> int:
    """Return the pid of the process that writes the record."""
    living = writer_lock.read_owner(str(find_record(project)))
    assert living is not None
    return living.pid


def find_waiting(run: Watched) -> int:
    """Return the pid of the process that the shell started."""
    return os.tcgetpgrp(run.master)


def wait_for_begin(run: Watched) -> None:
    run.wait_for_text(" up\r\n")
    run.wait_for_text("d detach")


def test_d_gives_the_prompt_back_and_the_run_goes_on_to_its_true_end(tmp_path: Path) -> None:
    """No byte is lost or comes twice, attach shows the rest, and the end is the run's own."""
    with fanout_on_a_terminal(tmp_path, COUNTING, "--show", "all") as run:
        run.wait_for_text("line 50\r\n")
        run.wait_for_text("d detach")
        run.press_keys("d")
        run.wait_for_word(b"ended")
        assert run.told == b"ended 0\n"
        assert run.cooked
        text = run.raw.decode()
        for way in ("attach", "logs -f", "stop"):
            assert f"fanout {way} {find_record(tmp_path).name}" in text
        assert os.getsid(find_launcher(tmp_path)) == find_launcher(
            tmp_path
        )  # a hang-up of this terminal is nothing to it
        assert "detached" in run_fanout(tmp_path, "ps").stdout
        (tmp_path / "go").touch()
        came = run_fanout(tmp_path, "attach", "latest")
    assert came.returncode == 7, came.stderr
    assert "localhost ended by itself with exit 7" in came.stderr
    lines = (find_record(tmp_path) / "logs" / "localhost.log").read_text().splitlines()
    count = int(lines[-1].removeprefix("last "))
    assert lines[:-1] == [f"line {number}" for number in range(1, count + 1)]
    assert json.loads((find_record(tmp_path) / "result.json").read_text())["exit_code"] == 7


def test_d_before_all_have_started_waits_for_that(tmp_path: Path) -> None:
    """A run that does not exist yet is not left alone: where it fails to start, the user is there to see it."""
    with fanout_on_a_terminal(tmp_path, COUNTING, "--setup", "sleep 1") as run:
        run.wait_for_text("d detach")
        run.press_keys("d")
        run.wait_for_word(b"ended")
        (tmp_path / "go").touch()
        assert run.told == b"ended 0\n"
        assert b"detached: run" in run.raw
        assert run_fanout(tmp_path, "attach", "latest").returncode == 7


def test_d_in_attach_leaves_the_run_alone(tmp_path: Path) -> None:
    """Leaving with the key that was made for it is no interrupt: 0."""
    with fanout_on_a_terminal(tmp_path, COUNTING, "-d") as run:
        run.wait_for_word(b"ended")
    with fanout_on_a_terminal(tmp_path, COUNTING, verb=("attach",)) as run:
        run.wait_for_text("^C leave")
        run.press_keys("d")
        run.wait_for_word(b"ended")
        assert run.told == b"ended 0\n"
        assert run.cooked
        assert b"left; the run goes on" in run.raw
    (tmp_path / "go").touch()
    assert run_fanout(tmp_path, "attach", "latest").returncode == 7


def test_attach_shows_the_stacks_and_asks_before_it_leaves(tmp_path: Path) -> None:
    """The script has no Python, so the command behind the key reports that no rank sent a stack."""
    with fanout_on_a_terminal(tmp_path, FOREVER, "-d") as run:
        run.wait_for_word(b"ended")
    with fanout_on_a_terminal(tmp_path, FOREVER, verb=("attach",)) as run:
        run.wait_for_text("^C leave")
        run.press_keys("s")
        run.wait_for_text("no rank sent its stack")
        run.press_keys("x")
        run.wait_for_new_text("q quit")
        run.press_keys("q")
        run.wait_for_text("leave?  y leave")
        run.press_keys("y")
        run.wait_for_word(b"ended")
        assert run.told == b"ended 0\n"
        assert any("the run goes on" in line for line in run.screen.seen)
    assert run_fanout(tmp_path, "stop", "latest").returncode == 0


def test_a_survived_hangup_leaves_no_process_waiting(tmp_path: Path) -> None:
    """--on-hangup keep: the process in front ends with its terminal, the launcher with the run."""
    with fanout_on_a_terminal(tmp_path, COUNTING, "--on-hangup", "keep") as run:
        run.wait_for_text("line 5\r\n")
        run.wait_for_text("d detach")
        run.send_signal(signal.SIGHUP)
        run.wait_for_word(b"ended")
        assert run.told == b"ended 0\n"
        assert run.cooked
        (tmp_path / "go").touch()
        assert run_fanout(tmp_path, "attach", "latest").returncode == 7


@pytest.mark.parametrize("whom", ["launcher", "waiting", "both"])
def test_a_signal_counts_once_whichever_of_the_two_it_reaches(tmp_path: Path, whom: str) -> None:
    """TERM a second time would kill: a train.sh that takes a moment to end must not be killed for the first."""
    with fanout_on_a_terminal(tmp_path, FOREVER) as run:
        wait_for_begin(run)
        if whom == "both":
            run.send_signal(signal.SIGTERM)
        else:
            os.kill(find_launcher(tmp_path) if whom == "launcher" else find_waiting(run), signal.SIGTERM)
        run.wait_for_word(b"ended")
        assert run.told == b"ended 143\n"
        assert run.cooked
    recorded = (find_record(tmp_path) / "events.jsonl").read_text()
    assert recorded.count('"type":"interrupted"') == 1, recorded
    assert '"code":9' in recorded


def test_the_terminal_is_in_order_after_a_launcher_that_was_killed(tmp_path: Path) -> None:
    """It could not clean up itself; the process that waited for it can, and names the guardian that ends the run."""
    with fanout_on_a_terminal(tmp_path, FOREVER) as run:
        wait_for_begin(run)
        assert not run.cooked
        os.kill(find_launcher(tmp_path), signal.SIGKILL)
        run.wait_for_word(b"ended")
        assert run.told == b"ended 137\n"
        assert run.cooked
        assert b"its guardian stops the run" in run.raw
        assert run_fanout(tmp_path, "stop", "latest").returncode in (0, 255)  # the guardian is faster, or it is not


def test_run_ends_after_its_foreground_command_is_killed(tmp_path: Path) -> None:
    """kill -9 of what the shell started means the run: the launcher behind it ends it in order, with a report."""
    with fanout_on_a_terminal(tmp_path, FOREVER) as run:
        wait_for_begin(run)
        os.kill(find_waiting(run), signal.SIGKILL)
        run.wait_for_word(b"ended")
        code = run_fanout(tmp_path, "attach", "latest").returncode
    assert code in (128 + signal.SIGPIPE, 128 + signal.SIGHUP)  # the shell of this test ends with its job
    assert '"type":"cleaned_up","host":"localhost"' in (find_record(tmp_path) / "events.jsonl").read_text()


def test_signal_to_both_processes_counts_once_and_two_signals_count_twice() -> None:
    counts = SignalCounts()
    counts.count_in_parent(signal.SIGTERM)
    counts.count_in_launcher(signal.SIGTERM)
    assert [counts.take_unhandled(signal.SIGTERM) for _ in range(2)] == [True, False]
    counts.count_in_parent(signal.SIGTERM)
    assert [counts.take_unhandled(signal.SIGTERM) for _ in range(2)] == [True, False]
    counts.count_in_launcher(signal.SIGTERM)
    assert not counts.take_unhandled(signal.SIGTERM)
    assert not counts.take_unhandled(signal.SIGINT)
