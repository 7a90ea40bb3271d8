"""Screens of a whole session: what a person sees of ``fanout attach`` and ``fanout replay``, from the first key to the report."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from fanout.model.events import Event
from fanout.model.state import RunState, apply_event
from fanout.run import closing_report
from fanout.run.replay_clock import ReplayClock
from fanout.run.replay_player import ReplayPlayer
from fanout.ui.display_mode import DisplayMode
from fanout.ui.key_parser import Key
from fanout.ui.replay_view import ReplayView
from tests.histories import History
from tests.run.test_closing_report import SIZES, judge_run
from tests.run.test_replay_player import Wall, find_moments
from tests.ui import run_states
from tests.ui.goldens import Terminal, build_heading, same_as_golden
from tests.ui.test_view_screens import STACK_LINES, Screen, TypedKeys

PLAIN = DisplayMode(mode="live", colour=False, unicode=True)
STEP_SECONDS = 1.5  # of the viewer, between two steps of a replay
REPLAY_STEPS: tuple[tuple[str, Sequence[str]], ...] = (
    ("the replay begins", ()),
    ("+: twice as fast", ("+",)),
    ("space: pause", (" ",)),
    ("]: the next event", ("]",)),
    ("left and left: 20 seconds back", ("left", "left")),
    ("?: help", ("?",)),
    ("any key: the log again", ("x",)),
    ("/step 3 and Enter: only these lines", ("/", *"step 3", "enter")),
    ("space: the replay goes on", (" ",)),
    ("Esc: all lines", ("escape",)),
    ("down and Enter: one host", ("down", "enter")),
    ("left: 10 seconds back", ("left",)),
    ("-: slower", ("-",)),
    ("End: the report", ("end",)),
)

ATTACH_STEPS: tuple[tuple[str, Sequence[str]], ...] = (
    ("?: help", ("?",)),
    ("any key: the log again", ("x",)),
    ("/step 39 and Enter: only these lines", ("/", *"step 39", "enter")),
    ("Esc: all lines", ("escape",)),
    ("5: one rank", ("5",)),
    ("Esc: the default", ("escape",)),
    ("down and Enter: one host", ("down", "enter")),
    ("Esc: all hosts", ("escape",)),
    ("s: the stacks", ("s",)),
    ("any key: the log again", ("x",)),
    ("q: the question", ("q",)),
    ("Esc: no", ("escape",)),
)


def fail_run(run: History) -> History:
    """Let one host fail; the launcher stops the others, and verifies all."""
    run.end_hosts("gpu02", code=1).pass_time(0.5)
    run.stop_hosts("gpu02 failed", "gpu01", "gpu03", "gpu04", reason="host-failed").pass_time(2.0)
    run.end_hosts("gpu01", "gpu03", "gpu04", code=None, signal=15).release_hosts(*run.hosts)
    return run.pass_time(0.5)


def render_end(run: History, columns: int) -> str:
    return closing_report.render_report(judge_run(run), PLAIN, columns, full=False)


class SessionScreens:
    """Screens of a terminal, one after each step."""

    def __init__(self, size: tuple[int, int], out: io.StringIO) -> None:
        self._terminal, self._rows, self._out, self._fed = Terminal(*size), size[1], out, 0
        self.text = ""

    def keep_screen(self, step: str, report: str = "") -> None:
        text = self._out.getvalue()
        self._terminal.feed_text(text[self._fed :] + report)
        self._fed = len(text)
        self.text += f"=== {step}\n" + "\n".join(self._terminal.seen[-self._rows :]) + "\n"


class ReplaySession:
    """Replay of a run at a terminal, in which a person presses the keys of REPLAY_STEPS; it keeps the screen after each step."""

    def __init__(self, run: History, size: tuple[int, int]) -> None:
        self.run, self.size, self.wall, self.out = run, size, Wall(), io.StringIO()
        self.screens = SessionScreens(size, self.out)
        self._steps = list(REPLAY_STEPS)
        self._keyboard = TypedKeys()
        self._step = ""
        clock = ReplayClock(run.at - run.began_at, 1.0, find_moments(run), self.wall)
        self.view = ReplayView(
            replace(build_heading(run.hosts), ranks={host: (node, 2) for node, host in enumerate(run.hosts)}),
            stdout=self.out,
            size=lambda: size,
            clock=self.wall,
            colour=False,
            keyboard=self._keyboard,  # type: ignore[arg-type]
            replay=clock,
            detach=clock.quit,
            viewing="replay",
        )
        self._player = ReplayPlayer(
            self._iter_states, self.view, clock, lambda: (), began_at=run.began_at, delay=self._pass_time
        )

    def play_run(self) -> str:
        """Play to the end; return all screens."""
        self._player.play()
        self.view.close()
        self.screens.keep_screen(self._step, render_end(self.run, self.size[0]))
        return self.screens.text

    def _iter_states(self) -> Iterator[tuple[Event, RunState]]:
        state = RunState.initial(self.run.hosts, at=self.run.began_at)
        for event in self.run.events:
            state = apply_event(state, event)
            yield event, state

    def _pass_time(self, seconds: float) -> None:
        self.wall.pass_time(seconds)
        done = len(REPLAY_STEPS) - len(self._steps)
        if self._steps and self.wall.now - 100.0 >= done * STEP_SECONDS:
            if self._step:
                self.screens.keep_screen(self._step)
            self._step, keys = self._steps.pop(0)
            self._keyboard.keys += [Key(name) for name in keys]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_session_of_a_replay(size: tuple[int, int]) -> None:
    shown = ReplaySession(fail_run(run_states.build_running()), size).play_run()
    assert shown.count("=== ") == len(REPLAY_STEPS)
    same_as_golden(f"session-replay-{size[0]}x{size[1]}", shown)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_session_of_attach(size: tuple[int, int]) -> None:
    """From the view of a run that goes on to the report of its failure."""
    screen = Screen(run_states.build_running(), size, viewing="attach")
    screens = SessionScreens(size, screen.out)
    screens.keep_screen("attach")
    for step, keys in ATTACH_STEPS:
        if keys == ("s",):
            screen.stacks.lines = list(STACK_LINES)
        screen.press_keys(*keys)
        screens.keep_screen(step)
    screen.play_further(fail_run)
    screens.keep_screen("a host fails")
    screen.view.close()
    screens.keep_screen("the report", render_end(screen.run, size[0]))
    same_as_golden(f"session-attach-{size[0]}x{size[1]}", screens.text)
