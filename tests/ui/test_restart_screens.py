"""Screens of a run between two attempts, and of its next attempt: the view stays open, and its block never goes away."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from fanout.model.events import Chunk, RestartPhase
from fanout.model.run_info import describe_attempt
from fanout.ui.json_lines import JsonLines
from fanout.ui.key_bindings import KeyBindings
from fanout.ui.key_parser import Key
from fanout.ui.live_view import LiveView
from fanout.ui.plain_view import PlainView
from tests.histories import History, run_between_attempts
from tests.ui.goldens import Terminal, build_heading, build_next_heading, same_as_golden
from tests.ui.test_live_view import Clock, show_run

SIZES = [(80, 24), (140, 40)]
PHASES: dict[str, tuple[RestartPhase, ...]] = {
    "fence": ("fence",),
    "backoff": ("fence", "backoff"),
    "start": ("backoff", "start"),
}


@pytest.mark.parametrize(("columns", "rows"), SIZES)
@pytest.mark.parametrize("phase", PHASES)
def test_screen_of_each_phase(phase: str, columns: int, rows: int) -> None:
    terminal, _ = show_run(run_between_attempts(*PHASES[phase]), columns, rows)
    assert max(len(line) for line in terminal.seen if line.startswith(" ")) < columns
    same_as_golden(f"live-restart-{phase}-{columns}", terminal.text)


def test_smallest_block_shows_the_phase() -> None:
    terminal, _ = show_run(run_between_attempts("backoff"), 60, 8)
    assert "waiting before the restart: 3 s left" in terminal.text


def start_next_attempt() -> History:
    return History("gpu01", "gpu09", at=run_between_attempts("backoff", "start").at).connect_hosts()


def show_both(columns: int, rows: int, following: History) -> tuple[Terminal, str]:
    """Return the screen after attempt 0, its gap, and the next attempt."""
    run, out = run_between_attempts("backoff", "start"), io.StringIO()
    live = LiveView(build_heading(run.hosts), stdout=out, size=lambda: (columns, rows), clock=Clock())
    run.play_events(live)
    live.begin_attempt(build_next_heading(following.hosts))
    following.play_events(live)
    live.draw_frame(force=True)
    terminal = Terminal(columns, rows)
    terminal.feed_text(out.getvalue())
    return terminal, out.getvalue()


@pytest.mark.parametrize(("columns", "rows"), SIZES)
def test_screen_of_the_next_attempt(columns: int, rows: int) -> None:
    terminal, _ = show_both(columns, rows, start_next_attempt())
    same_as_golden(f"live-restart-connected-{columns}", terminal.text)
    running = start_next_attempt().start_hosts().add_output("gpu09", b"step 2/9 loss 2.9\n").pass_time(1.0)
    terminal, _ = show_both(columns, rows, running)
    same_as_golden(f"live-restart-running-{columns}", terminal.text)


def test_block_is_on_the_screen_in_every_frame() -> None:
    """No frame between the first and the last attempt shows a plain prompt."""
    _, written = show_both(80, 24, start_next_attempt().start_hosts().pass_time(1.0))
    terminal, frames = Terminal(80, 24), 0
    for frame in written.split("\x1b[?2026l") if "\x1b[?2026l" in written else [written]:
        terminal.feed_text(frame)
        frames += 1
        assert not terminal.text.strip() or "7f3a" in terminal.text
    assert frames


def test_choice_of_ranks_and_folding_stays_for_the_next_attempt() -> None:
    run = run_between_attempts("start")
    live = LiveView(build_heading(run.hosts), stdout=io.StringIO(), size=lambda: (80, 24), clock=Clock())
    run.play_events(live)
    keys: KeyBindings = live._key_bindings
    for key in "5f":
        keys.handle_key(Key(key))
    chosen = (live._flow.line_filter.show, live._flow.folding.mode)
    live.begin_attempt(build_next_heading(("gpu01", "gpu09")))
    assert (live._flow.line_filter.show, live._flow.folding.mode) == chosen
    keys.handle_key(Key("a"))
    assert live._flow.line_filter.show == "all"


def test_pipe_gets_each_phase_once_and_a_message_every_half_minute() -> None:
    run, err = run_between_attempts("fence"), io.StringIO()
    for _ in range(8):
        run.pass_time(10.0)
    view = PlainView(build_heading(run.hosts), stdout=io.StringIO(), stderr=err)
    run.play_events(view)
    view.begin_attempt(build_next_heading(("gpu01", "gpu09")))
    lines = err.getvalue().splitlines()
    begin = next(at for at, line in enumerate(lines) if "attempt 0 failed" in line)
    assert lines[begin:] == [
        "fanout: attempt 0 failed: rank 1 on gpu02 was killed by SIGKILL",
        "fanout:         restart 1 of 3: gpu09 replaces gpu02 as node rank 1",
        "fanout: the lost host ends its part by itself: 1 min 35 s left",
        "fanout: the lost host ends its part by itself: 58 s left",
        "fanout: the lost host ends its part by itself: 28 s left",
        "fanout: run 7f3a.1 · tasks/train.py cfg.yaml · 2 hosts · attempt 1 of 3 · logs in /home/me/runs/7f3a/attempt-1",
    ]


def test_json_stream_has_one_run_object_for_each_attempt_and_its_phases() -> None:
    run, out = run_between_attempts("backoff", "start"), io.StringIO()
    run.add_events(Chunk(at=run.at, host="gpu01", stream=0, offset=18, data=b"without an end"))
    view = JsonLines(build_heading(run.hosts), stdout=out)
    view.begin(run.began_at)
    run.play_events(view)
    view.begin_attempt(build_next_heading(("gpu01", "gpu09")))
    view.begin(run.at)
    objects: list[dict[str, Any]] = [json.loads(line) for line in out.getvalue().splitlines()]
    order = [(each["type"], each.get("attempt"), each.get("phase")) for each in objects]
    ours = [each for each in order if each[0] in ("run", "restarting")]
    assert ours == [("run", 0, None), ("restarting", 1, "backoff"), ("restarting", 1, "start"), ("run", 1, None)]
    assert objects[-2]["text"] == "without an end"  # the rest of attempt 0 comes before attempt 1
    assert (objects[-1]["max_restarts"], objects[-1]["restarts_used"]) == (3, 1)
    assert objects[-1]["cause"].startswith("attempt 0 failed")


@pytest.mark.parametrize(
    ("number", "max_restarts", "used", "text"),
    [
        (0, 3, 0, ""),
        (1, 3, 1, "attempt 1 of 3"),
        (4, 3, 1, "attempt 4 (restart 1 of 3)"),
        (2, 3, 0, "attempt 2 (not counted)"),
        (2, None, None, "attempt 2"),
    ],
)
def test_attempt_has_its_place_in_the_budget(
    number: int, max_restarts: int | None, used: int | None, text: str
) -> None:
    assert describe_attempt(number, max_restarts, used) == text
