"""Replay: the pace of the events, seeks, speed and pause, on a clock of the test."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import pytest

from fanout.model.events import Event, Tick
from fanout.model.state import RunState, apply_event
from fanout.model.subscriber import Subscriber, TextView
from fanout.run.replay_clock import FASTEST, SLOWEST, Moment, ReplayClock
from fanout.run.replay_index import MomentIndex, StepFinder
from fanout.run.replay_player import TICK_SECONDS, ReplayPlayer
from fanout.ui.replay_view import ReplayView
from tests import histories
from tests.histories import History
from tests.ui import run_states
from tests.ui.goldens import Terminal, build_heading

MOMENTS = (Moment(2.0, "started"), Moment(10.0, "gpu02 failed"), Moment(30.0, "stopping all hosts"))


class Wall:
    """Clock of the viewer, which only the test and the player move."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def pass_time(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def build_clock(wall: Wall, speed: float = 1.0) -> ReplayClock:
    return ReplayClock(60.0, speed, MOMENTS, wall)


def test_position_follows_the_speed_and_stands_in_a_pause() -> None:
    wall = Wall()
    clock = build_clock(wall, 20.0)
    wall.now += 0.5
    assert clock.position.at == pytest.approx(10.0)
    clock.toggle_pause()
    wall.now += 0.5
    assert clock.position.at == pytest.approx(10.0)
    assert clock.position.paused
    clock.toggle_pause()
    wall.now += 0.25
    assert clock.position.at == pytest.approx(15.0)
    wall.now += 1000.0  # the viewer suspended fanout
    assert clock.position.at == pytest.approx(35.0)


def test_seeks_add_up_and_stay_in_the_run() -> None:
    clock = build_clock(Wall())
    clock.seek_by(10.0)
    clock.seek_by(10.0)
    assert clock.target == 20.0
    clock.seek_by(-90.0)
    assert clock.target == 0.0
    clock.seek_to_end()
    assert clock.target == 60.0
    clock.seek_to_start()
    assert clock.target == 0.0


def test_brackets_go_to_the_events_of_interest() -> None:
    clock = build_clock(Wall())
    assert clock.seek_to_event(1) == "00:00:02  started"
    assert clock.seek_to_event(1) == "00:00:10  gpu02 failed"
    clock.move(30.0)
    clock.target = None
    assert clock.seek_to_event(1) == "no later event"
    assert clock.seek_to_event(-1) == "00:00:10  gpu02 failed"
    assert clock.seek_to_event(-1) == "00:00:02  started"
    assert clock.seek_to_event(-1) == "no earlier event"
    assert clock.target == 2.0


def test_speed_doubles_and_halves_within_bounds() -> None:
    clock = build_clock(Wall())
    for _ in range(20):
        clock.change_speed(True)
    assert clock.speed == FASTEST
    for _ in range(30):
        clock.change_speed(False)
    assert clock.speed == SLOWEST
    unlimited = build_clock(Wall(), float("inf"))
    unlimited.change_speed(True)
    assert unlimited.speed == float("inf")
    unlimited.change_speed(False)
    assert unlimited.speed == FASTEST


def iter_states(run: History) -> Iterator[tuple[Event, RunState]]:
    state = RunState.initial(run.hosts, at=run.began_at)
    for event in run.events:
        state = apply_event(state, event)
        yield event, state


class Script:
    """View of a terminal in memory that calls a function at each frame, as a key would."""

    def __init__(self, run: History, speed: float, *, at: float = 0.0) -> None:
        self.run, self.wall, self.out = run, Wall(), io.StringIO()
        self.clock = ReplayClock(run.at - run.began_at, speed, find_moments(run), self.wall)
        self.view = ReplayView(
            build_heading(run.hosts),
            stdout=self.out,
            size=lambda: (100, 30),
            clock=self.wall,
            replay=self.clock,
            viewing="replay",
        )
        self.learned: list[Event] = []
        self.restarts = 0
        if at:
            self.clock.target = at
        self.player = ReplayPlayer(
            lambda: iter_states(run),
            self.view,
            self.clock,
            self._build_learners,
            began_at=run.began_at,
            delay=self._pass_time,
        )
        self.keys: dict[float, list[str]] = {}  # when a key is pressed, in seconds of the viewer -> its action
        self.positions: list[float] = []

    def _build_learners(self) -> Sequence[Subscriber]:
        self.learned, self.restarts = [], self.restarts + 1
        return [self._learn_event]  # type: ignore[list-item]

    def _learn_event(self, event: Event, state: RunState) -> None:
        self.learned.append(event)

    def _pass_time(self, seconds: float) -> None:
        self.wall.pass_time(seconds)
        self.positions.append(self.clock.position.at)
        for at in [at for at in self.keys if at <= self.wall.now - 100.0]:
            for name in self.keys.pop(at):
                getattr(self.clock, name)()

    def play_run(self, keys: dict[float, list[str]] | None = None) -> Terminal:
        self.keys = keys or {}
        self.player.play()
        self.view.draw_frame(force=True)
        terminal = Terminal(100, 30)
        terminal.feed_text(self.out.getvalue())
        return terminal


def find_moments(run: History) -> list[Moment]:
    index = MomentIndex()
    run.play_events(index)
    return index.moments


def test_every_event_comes_at_its_time() -> None:
    run = histories.good_run(steps=3)
    script = Script(run, 2.0)
    seen: list[tuple[float, Event]] = []

    class Recorder(TextView):
        broken = False

        def __call__(self, event: Event, state: RunState) -> None:
            seen.append((script.wall.now - 100.0, event))

        def note(self, text: str) -> None:
            """Ignore the message."""

        def close(self) -> None:
            """Close nothing, because nothing is open."""

    script.player._view = Recorder()
    script.player.play()
    events = [(at, event) for at, event in seen if not isinstance(event, Tick)]
    for at, event in events:
        assert at >= (event.at - run.began_at) / 2.0 - 1e-6
    assert [event for _, event in events] == [event for event in run.events if not isinstance(event, Tick)]
    assert script.wall.now - 100.0 == pytest.approx((run.at - run.began_at) / 2.0, abs=0.3)
    assert max(script.wall.slept) <= TICK_SECONDS


def test_seek_forward_reads_the_events_between_without_showing_them() -> None:
    run = run_states.build_running()
    script = Script(run, 1.0)
    script.keys = {}
    script.clock.target = 30.0
    script.player._seek()
    script.view.draw_frame(force=True)
    terminal = Terminal(100, 30)
    terminal.feed_text(script.out.getvalue())
    text = "\n".join(terminal.seen)
    assert "00:00:30 / 00:00:40  REPLAY ×1  RUNNING" in text
    assert "step 30/400" in terminal.seen[-1]
    assert "replay at 00:00:30; the lines before it:" in text
    assert script.learned == [event for event in run.events if event.at - run.began_at <= 30.0]
    assert not any("connected 4/4" in line for line in terminal.seen)
    assert " s left" in terminal.seen[-1]  # the steps that were skipped count


def test_seek_back_begins_again_and_counts_nothing_twice() -> None:
    run = run_states.build_running()
    script = Script(run, 1.0, at=30.0)
    script.player._seek()
    script.clock.seek_by(-20.0)
    script.player._seek()
    assert script.restarts == 2
    assert script.learned == [event for event in run.events if event.at - run.began_at <= 10.0]
    assert script.view._flow.lines["gpu01"] == 20
    assert script.clock.position.at == pytest.approx(10.0)


def test_replay_ends_at_the_end_key_and_has_all_events() -> None:
    run = histories.second_host_fails()
    script = Script(run, 1.0)
    terminal = script.play_run({0.5: ["seek_to_end"]})
    assert script.learned == run.events
    assert script.wall.now < 102.0
    assert any("ENDED" in line for line in terminal.seen)


def test_pause_stands_still_until_the_next_key() -> None:
    script = Script(histories.good_run(steps=3), 1.0)
    script.play_run({1.0: ["toggle_pause"], 6.0: ["toggle_pause", "seek_to_end"]})
    waiting = [at for at in script.positions if 1.0 <= at <= 1.1]
    assert len(waiting) >= 40
    assert len(set(waiting)) <= 2


def test_pause_of_a_slow_viewer_shows_all_events_before_the_position() -> None:
    run = run_states.build_running()
    script = Script(run, 20.0)
    script.wall.now += 0.9
    script.clock.toggle_pause()
    script.play_run({2.0: ["quit"]})
    assert script.learned == [event for event in run.events if event.at - run.began_at <= 18.0]


def test_quit_ends_the_replay_at_once() -> None:
    run = histories.good_run()
    script = Script(run, 1.0)
    script.play_run({1.0: ["quit"]})
    assert script.clock.left
    assert len(script.learned) < len(run.events)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("failed", ["started on all hosts", "gpu02 failed", "stopping all hosts: gpu02: exit 3"]),
        ("interrupted", ["started on all hosts", "the launcher got SIGINT", "stopping all hosts: SIGINT"]),
        ("link", ["started on all hosts", "the connection to gpu02 was lost", "gpu02 reconnected"]),
        ("unreachable", ["gpu02 failed", "stopping all hosts: gpu02: unreachable"]),
    ],
)
def test_index_lists_the_events_of_interest(name: str, texts: list[str]) -> None:
    moments = find_moments(histories.TYPICAL[name]())
    assert [moment.text for moment in moments][: len(texts)] == texts
    assert [moment.at for moment in moments] == sorted(moment.at for moment in moments)


def test_index_lists_a_hang_once() -> None:
    assert [moment.text for moment in find_moments(run_states.build_hung())] == [
        "started on all hosts",
        "the run hangs",
    ]


def test_step_finder_returns_when_the_step_was_reached() -> None:
    run = run_states.build_running()
    finder, late = StepFinder(12, None), StepFinder(500, None)
    run.play_events(finder, late)
    assert finder.at == pytest.approx(11.65, abs=0.1)
    assert (late.at, late.highest) == (None, 40)
