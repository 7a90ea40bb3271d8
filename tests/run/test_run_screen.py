"""Screen of a run: it shows the current attempt only, and the user can detach at any time of a run with restarts."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fanout.diagnose.signatures import load_builtin
from fanout.logs.line_filters import DisplayFilters
from fanout.model.events import Event, Interrupted
from fanout.model.run_info import AttemptInfo, RunInfo
from fanout.model.state import RunState
from fanout.run import diagnosis
from fanout.run.attempt_reporters import AttemptReporters
from fanout.run.detach import ParentPipe
from fanout.run.run_screen import RunScreen
from fanout.ui.display_mode import DisplayMode
from tests.histories import History, run_between_attempts
from tests.process_contexts import build_process
from tests.ui.goldens import build_heading, build_next_heading


class ForegroundEnd(ParentPipe):
    """Pipe to a foreground parent that exists."""

    at_start = False


class Opened:
    """A screen in the plain mode, and what it printed."""

    def __init__(self, directory: Path, max_restarts: int) -> None:
        self.read, write = os.pipe()
        self.err = io.StringIO()
        process = build_process(directory, self.err)
        self.heading = replace(build_heading(("gpu01", "gpu02")), attempt=AttemptInfo(max_restarts=max_restarts))
        look = DisplayMode(mode="plain", colour=False, unicode=True)
        reporters = build_reporters(self.heading)
        self.reasons: list[str] = []
        self.screen = RunScreen(
            self.heading, reporters, look, process, DisplayFilters(), parent_pipe=ForegroundEnd(write), keep=False
        )
        self.attempt = self.screen.show_attempt(self.heading, reporters, self.reasons.append)

    def press_d(self) -> None:
        self.screen._detach_request()


def build_reporters(heading: RunInfo) -> AttemptReporters:
    return AttemptReporters.build(diagnosis.build_collector(heading, load_builtin()))


def play_and_detach(tmp_path: Path, run: History, max_restarts: int = 3) -> Opened:
    """Show the run; the user presses d before its last event."""
    opened, run = Opened(tmp_path, max_restarts), run.pass_time(0.1)

    def show_event(event: Event, state: RunState) -> None:
        if event is run.events[-1]:
            opened.press_d()
        opened.attempt(event, state)

    run.play_events(show_event)
    return opened


RUNNING = History("gpu01", "gpu02").connect_hosts().start_hosts().pass_time(1.0)


@pytest.mark.parametrize(
    ("run", "max_restarts", "leaves"),
    [
        (RUNNING, 0, True),
        (RUNNING, 3, True),
        (run_between_attempts(), 0, False),  # the run is ending, and its report follows
        (run_between_attempts(), 3, True),
        (run_between_attempts("backoff"), 3, True),
        (History("gpu01", "gpu02").connect_hosts().pass_time(1.0), 3, False),  # not yet started
    ],
    ids=["running", "running-with-restarts", "ending", "ending-with-restarts", "in-the-gap", "connecting"],
)
def test_key_d_detaches(tmp_path: Path, run: History, max_restarts: int, leaves: bool) -> None:
    opened = play_and_detach(tmp_path, run, max_restarts)
    assert opened.screen.left == leaves
    assert opened.reasons == (["detached"] if leaves else [])
    if leaves:
        assert os.read(opened.read, 16) == b"away"
    else:
        assert "detach" in opened.err.getvalue()


def test_interrupted_run_is_not_detached(tmp_path: Path) -> None:
    run = run_between_attempts("backoff")
    opened = play_and_detach(tmp_path, run.add_events(Interrupted(at=run.at, signal=2)))
    assert not opened.screen.left
    assert "not detached: the run is ending" in opened.err.getvalue()


def test_request_to_detach_before_the_start_is_kept_for_the_next_attempt(tmp_path: Path) -> None:
    opened = play_and_detach(tmp_path, History("gpu01", "gpu02").connect_hosts())
    following = build_next_heading(("gpu01", "gpu02"))
    attempt = opened.screen.show_attempt(following, build_reporters(following), opened.reasons.append)
    RUNNING.play_events(attempt)
    assert opened.screen.left


def test_events_of_the_last_attempt_are_not_shown_after_the_next_one_began(tmp_path: Path) -> None:
    opened = Opened(tmp_path, 3)
    old, following = opened.attempt, build_next_heading(("gpu01", "gpu09"))
    new = opened.screen.show_attempt(following, build_reporters(following), opened.reasons.append)
    before = opened.err.getvalue()
    assert "attempt 1 of 3" in before
    run_between_attempts().play_events(old)
    old.note("a late message")
    assert opened.err.getvalue() == before
    new.note("a message")
    assert opened.err.getvalue().endswith("fanout: a message\n")


def test_detached_screen_shows_no_later_attempt(tmp_path: Path) -> None:
    opened: Any = play_and_detach(tmp_path, run_between_attempts("backoff"))
    before = opened.err.getvalue()
    following = build_next_heading(("gpu01", "gpu09"))
    attempt = opened.screen.show_attempt(following, build_reporters(following), opened.reasons.append)
    RUNNING.play_events(attempt)
    opened.screen.note("a message")
    assert opened.err.getvalue() == before
