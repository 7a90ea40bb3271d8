"""Screens of the live view after keys: help, the question before leaving, filters, pause, one host, stacks."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from fanout.model.run_info import RunInfo
from fanout.model.subscriber import Viewing
from fanout.text.table import count_columns
from fanout.ui.key_parser import Key
from fanout.ui.keyboard import BRACKETED_PASTE, PLAIN_PASTE
from fanout.ui.live_view import LiveView
from fanout.ui.view_facts import ReplayPosition
from tests.histories import History
from tests.ui import run_states
from tests.ui.goldens import Terminal, build_heading, same_as_golden
from tests.ui.test_key_bindings import Replay, Stacks

SIZES = ((80, 24), (100, 30), (140, 40))
STACK_LINES = (
    "ranks 0-4,6-7 (gpu[01-04]) wait in all_reduce (train.py:98)",
    "rank 5 (gpu03) is in load_batch (data.py:5)",
)


class TypedKeys:
    """Keyboard that returns the keys of the test, one read for each key."""

    away = suspend_requested = False
    is_reading = True

    def __init__(self) -> None:
        self.keys: list[Key] = []

    def read_keys(self) -> list[Key]:
        return [self.keys.pop(0)] if self.keys else []

    def check_foreground(self) -> bool:
        return False

    def close(self) -> None:
        self.is_reading = False


class Screen:
    """Live view of a run, its keyboard, and the terminal that shows it."""

    def __init__(
        self, run: History, size: tuple[int, int], *, viewing: Viewing = "run", name: str = "", colour: bool = True
    ) -> None:
        self.run, self.size, self.out = run, size, io.StringIO()
        self.stacks, self.replay = Stacks(), Replay()
        self.replay.position = ReplayPosition(at=22.0, total=60.0, speed=20.0)
        self.keyboard, self._now = TypedKeys(), 0.0
        self.view = LiveView(
            _build_heading(run, name),
            stdout=self.out,
            size=lambda: self.size,
            clock=self._read_clock,
            colour=colour,
            keyboard=self.keyboard,  # type: ignore[arg-type]
            preview=lambda state: ("nothing has failed so far, and no hang was found",),
            detach=lambda: None,
            stop=(lambda: None) if viewing == "run" else None,
            stacks=self.stacks if viewing != "replay" else None,
            replay=self.replay if viewing == "replay" else None,
            viewing=viewing,
        )
        self.state = run.play_events(self.view)
        self.view.draw_frame(force=True)

    def _read_clock(self) -> float:
        return self._now

    def press_keys(self, *names: str) -> Screen:
        for name in names:
            self.keyboard.keys.append(Key(name))
            self._now += 1.0
            self.view.draw_frame()
        return self

    def add_output(self, text: str) -> Screen:
        """Let rank 0 write lines."""
        return self.play_further(lambda run: run.add_output(run.hosts[0], text.encode(), stream=1).pass_time(0.5))

    def play_further(self, add_events: Callable[[History], object]) -> Screen:
        """Let the run have more events, and draw a frame."""
        before = len(self.run.events)
        add_events(self.run)
        self.state = self.run.play_events()
        for event in self.run.events[before:]:
            self.view(event, self.state)
        self._now += 1.0
        self.view.draw_frame(force=True)
        return self

    @property
    def seen(self) -> list[str]:
        terminal = Terminal(*self.size)
        terminal.feed_text(self.out.getvalue())
        return terminal.seen[-self.size[1] :]

    @property
    def block(self) -> list[str]:
        seen = self.seen
        return seen[next(at for at, line in enumerate(seen) if "  00:0" in line or line.startswith(" 00:0")) :]


def _build_heading(run: History, name: str) -> RunInfo:
    ranks = {host: (node, 2) for node, host in enumerate(run.hosts)}
    heading = replace(build_heading(run.hosts), name=name, ranks=ranks, lease=300.0, connect_timeout=10.0)
    return heading if not name else replace(heading, run_id="20261129-150000-64641b8c0355")


KEYS: dict[str, tuple[Viewing, Sequence[str]]] = {
    "help": ("run", "?"),
    "help-attach": ("attach", "?"),
    "help-replay": ("replay", "?"),
    "quit": ("run", "q"),
    "quit-attach": ("attach", "q"),
    "attach": ("attach", ""),
    "replay": ("replay", ""),
    "filter": ("run", "/loss"),
    "filtered": ("run", ("/", *"step 39/", "enter")),
    "rank": ("run", "3"),
    "selected": ("run", ("down", "down")),
    "one-host": ("run", ("down", "down", "enter")),
    "stacks": ("run", "s"),
    "diagnosis": ("run", "p"),
    "quiet": ("run", "o"),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", KEYS)
def test_screen_after_keys(name: str, size: tuple[int, int]) -> None:
    viewing, keys = KEYS[name]
    screen = Screen(run_states.build_running(), size, viewing=viewing).press_keys(*keys)
    if name == "stacks":
        screen.stacks.lines = list(STACK_LINES)
        screen.view.draw_frame(force=True)
    assert max(map(count_columns, screen.block)) < size[0]
    same_as_golden(f"keys-{name}-{size[0]}x{size[1]}", "\n".join(screen.seen) + "\n")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_screen_of_a_pause_counts_the_new_lines(size: tuple[int, int]) -> None:
    screen = Screen(run_states.build_running(), size).press_keys(" ")
    before = [line for line in screen.seen if " | " in line]
    screen.add_output("".join(f"step {step}/400 loss 1.5\n" for step in range(41, 161)))
    assert [line for line in screen.seen if " | " in line] == before
    assert "PAUSED, 120 new lines" in screen.block[0]
    same_as_golden(f"keys-paused-{size[0]}x{size[1]}", "\n".join(screen.seen) + "\n")
    assert any("step 160/400" in line for line in screen.press_keys(" ").seen)
    assert "PAUSED" not in screen.block[0]


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 140])
def test_title_has_the_name_of_the_run_at_every_width(columns: int) -> None:
    title = Screen(run_states.build_running(), (columns, 30), name="lr3e-4").block[0]
    assert "lr3e-4" in title
    assert title.endswith("RUNNING")
    assert count_columns(title) < columns


LONG = ("node-with-a-very-long-name-01.cluster.example.org", "node-with-a-very-long-name-02.cluster.example.org")
WIDE = ("計算機一号", "計算機二号")
MANY = tuple(f"gpu{number:02d}" for number in range(1, 65))


@pytest.mark.parametrize("size", [(80, 24), (60, 15), (40, 10), (30, 6)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("hosts", [LONG, WIDE, MANY], ids=["long", "wide", "many"])
@pytest.mark.parametrize("name", KEYS)
def test_no_row_wraps_and_the_block_fits_in_every_mode(
    name: str, hosts: tuple[str, ...], size: tuple[int, int]
) -> None:
    """Also after the terminal became smaller, and after it became larger again."""
    viewing, keys = KEYS[name]
    run = History(*hosts).connect_hosts().start_hosts()
    for host in hosts:
        run.add_output(host, b"step 5/10 loss 2.5\n")
    screen = Screen(run.pass_time(1.0), (100, 30), viewing=viewing).press_keys(*keys)
    screen.out.seek(0)
    screen.out.truncate()
    screen.size = size
    screen.press_keys("unknown key")
    rows = screen.view._rows
    assert 0 < len(rows) < max(3, size[1])
    screen.out.seek(0)
    screen.out.truncate()
    screen.size = (140, 40)
    screen.press_keys("unknown key")
    assert max(map(count_columns, screen.block)) < 140


def test_block_keeps_its_last_row_after_help_was_closed() -> None:
    """New lines take the empty rows above the block; they are no part of the log."""
    screen = Screen(run_states.build_running(), (80, 24))
    before = len(screen.block)
    screen.press_keys("?", "x")
    seen = screen.seen
    assert seen[-1].lstrip().startswith("? help")
    assert len(screen.block) == before
    empty = [line for line in seen[: len(seen) - before] if not line]
    assert empty
    screen.add_output("a\nb\nc\n")
    assert len([line for line in screen.seen[:-before] if not line]) == len(empty) - 3
    screen.view.close()
    assert not any(not line for line in screen.seen)


def test_terminal_marks_pastes_while_the_keys_are_read() -> None:
    screen = Screen(run_states.build_running(), (80, 24))
    assert screen.out.getvalue().count(BRACKETED_PASTE) == 1
    screen.view.close()
    assert screen.out.getvalue().rfind(PLAIN_PASTE) > screen.out.getvalue().rfind(BRACKETED_PASTE)
