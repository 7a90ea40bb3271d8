"""What each key does, without a terminal."""

from __future__ import annotations

import pytest

from fanout.logs.line_filters import DisplayFilters
from fanout.logs.pipeline import LogPipeline, describe_hidden_lines
from fanout.model.subscriber import Viewing
from fanout.ui.key_bindings import WAITING_TEXT, KeyBindings
from fanout.ui.key_parser import Key
from fanout.ui.run_condition import RunCondition
from fanout.ui.view_facts import ReplayPosition
from fanout.ui.view_state import Mode, ViewState, describe_filters
from tests.histories import History
from tests.ui.goldens import build_heading

NAMES = {"\r": "enter", "\x1b": "escape", "\x7f": "erase"}


class Stacks:
    """Stacks that arrive when the test sets ``lines``."""

    def __init__(self) -> None:
        self.requests = 0
        self.lines: list[str] | None = None

    def request_stacks(self) -> None:
        self.requests += 1


class Replay:
    """Controls of a replay that record what was asked of them."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.position = ReplayPosition(at=0.0, total=60.0)

    def toggle_pause(self) -> None:
        self.calls.append("pause")

    def seek_by(self, seconds: float) -> None:
        self.calls.append(seconds)

    def seek_to_event(self, direction: int) -> str:
        self.calls.append(("event", direction))
        return "gpu02 failed"

    def seek_to_start(self) -> None:
        self.calls.append("start")

    def seek_to_end(self) -> None:
        self.calls.append("end")

    def change_speed(self, faster: bool) -> None:
        self.calls.append("faster" if faster else "slower")


class View:
    """Key bindings of a view, and what they did."""

    def __init__(
        self,
        *,
        detach: bool = False,
        stop: bool = False,
        stacks: Stacks | None = None,
        replay: Replay | None = None,
        viewing: Viewing = "run",
    ) -> None:
        run = History("gpu01", "gpu02", "node3")
        self.flow = LogPipeline(build_heading(run.hosts), DisplayFilters(), fold="similar", recent=True)
        self.notes: list[str] = []
        self.matches: list[str] = []
        self.repeated = self.left = self.stopped = 0
        self.state = ViewState()
        self.keys = KeyBindings(
            self.flow,
            self.state,
            hosts=run.hosts,
            note=self.notes.append,
            last_error=self._count_repeat,
            show_matches=self.matches.append,
            preview=lambda: ("gpu01 failed first",),
            detach=self._count_leave if detach else None,
            stop=self._count_stop if stop else None,
            stacks=stacks,
            replay=replay,
            viewing=viewing,
        )

    def _count_repeat(self) -> None:
        self.repeated += 1

    def _count_leave(self) -> None:
        self.left += 1

    def _count_stop(self) -> None:
        self.stopped += 1

    def press_keys(self, keys: str) -> View:
        for key in keys:
            self.keys.handle_key(Key(NAMES.get(key, key)))
        return self

    def press_names(self, *names: str) -> View:
        for name in names:
            self.keys.handle_key(Key(name))
        return self

    def read_hint(self, condition: RunCondition = RunCondition.RUNNING, width: int = 80, *, interrupts: int = 0) -> str:
        return self.keys.build_hint(condition, interrupts, width)

    @property
    def filters(self) -> list[str]:
        return describe_filters(self.flow.line_filter, self.flow.folding.mode, self.state)


def test_f_cycles_through_the_modes_of_folding() -> None:
    view = View()
    assert [view.press_keys("f").filters for _ in range(3)] == [["fold off"], ["fold exact"], []]


def test_a_shows_all_ranks_and_escape_goes_back_to_the_default() -> None:
    view = View()
    assert view.press_keys("a").filters == ["all ranks"]
    assert view.press_keys("a").filters == []
    assert view.press_keys("3").filters == ["rank 3 only"]
    assert view.press_keys("a").filters == ["all ranks"]
    assert view.press_keys("3\x1b").filters == []


def test_a_names_no_ranks_where_a_host_has_one_stream() -> None:
    view = View().press_keys("a")
    assert view.notes == ["showing every line: each host has one stream, not one for each rank"]
    view.flow.streams.parts["gpu01"] = {"0"}
    assert len(view.press_keys("a").notes) == 1


def test_rank_outside_the_plan_is_reported() -> None:
    """The hosts of this view have 8 ranks each."""
    assert View().press_keys("9").notes == []
    (note,) = View().press_keys("r24-28\r").notes
    assert note == "showing ranks 24-28, but this run has ranks 0-23 (a: show all ranks)"
    (note,) = View().press_keys("r8-1\r").notes
    assert note == "8-1: '8-1' is not a rank"


@pytest.mark.parametrize(
    ("keys", "show"),
    [
        ("r0,8-9\r", frozenset({0, 8, 9})),
        ("r12\x7f3\r", frozenset({13})),
        ("r5\x1b", "smart"),
        ("r\r", "smart"),
        ("rfx,\r", "smart"),
        ("r" + "1" * 100 + "\r", "smart"),
    ],
)
def test_r_takes_ranks_until_enter(keys: str, show: object) -> None:
    """What is typed does nothing else meanwhile, and what is no rank changes nothing."""
    view = View().press_keys(keys)
    assert view.flow.line_filter.show == show
    assert view.read_hint().startswith("? help")


def test_slash_filters_while_the_user_types() -> None:
    view = View().press_keys("/los")
    assert view.flow.line_filter.text == "los"
    assert view.filters == ["/los"]
    assert "text to show: los_" in view.read_hint()
    assert view.press_keys("s\x7fs\r").filters == ["/loss"]
    assert view.matches == ["with 'loss'"]
    assert view.press_keys("/\x7f\x7f").flow.line_filter.text == "lo"  # the entry begins with the present text
    assert view.press_keys("\x1b").filters == []


def test_escape_clears_the_filter_after_it_was_entered() -> None:
    view = View().press_keys("/loss\r2\x1b")
    assert view.filters == ["rank 2 only"]
    assert view.press_keys("\x1b").filters == []


def test_arrows_select_a_host_and_enter_shows_only_it() -> None:
    view = View().press_names("down", "down")
    assert view.state.selected == "gpu02"
    assert view.press_names("enter").filters == ["host gpu02"]
    assert view.state.selected == ""
    assert view.press_names("up").state.selected == "gpu01"
    assert view.press_names("escape").filters == ["host gpu02"]
    assert view.press_names("escape").filters == []
    assert view.press_names("up").state.selected == "node3"


@pytest.mark.parametrize(
    ("typed", "host", "note"),
    [
        ("gpu02", "gpu02", ""),
        ("3", "node3", ""),
        ("gpu", "", "2 hosts have 'gpu' in their name"),
        ("x", "", "no host has 'x' in its name"),
        ("", "", ""),
    ],
)
def test_h_shows_the_host_that_the_user_names(typed: str, host: str, note: str) -> None:
    view = View().press_keys(f"h{typed}\r")
    assert view.flow.line_filter.host == host
    assert view.notes == ([note] if note else [])


def test_space_pauses_and_the_title_counts_new_lines() -> None:
    view = View().press_keys(" ")
    view.state.new_lines = 1234
    assert view.filters == ["PAUSED, 1,234 new lines"]
    assert "space resume" in view.read_hint()
    assert view.press_keys(" ").filters == []


def test_help_stays_open_until_the_next_key_which_does_nothing_else() -> None:
    view = View(detach=True).press_keys("?")
    assert view.state.mode is Mode.OVERLAY
    assert any(line.startswith("d ") for line in view.state.overlay)
    assert view.read_hint() == "any key closes this"
    assert view.press_keys("d").left == 0
    assert view.state.overlay == ()


@pytest.mark.parametrize(
    ("viewing", "key", "left", "stopped"),
    [
        ("run", "d", 1, 0),
        ("run", "s", 0, 1),
        ("run", "\x1b", 0, 0),
        ("run", "x", 0, 0),
        ("attach", "y", 1, 0),
        ("attach", "\x1b", 0, 0),
        ("attach", "d", 0, 0),
    ],
)
def test_q_asks_before_it_leaves(viewing: Viewing, key: str, left: int, stopped: int) -> None:
    view = View(detach=True, stop=viewing == "run", viewing=viewing).press_keys("q")
    assert (view.left, view.stopped) == (0, 0)
    assert "leave?" in view.read_hint()
    view.press_keys(key)
    assert (view.left, view.stopped, view.state.mode) == (left, stopped, Mode.LOG)


@pytest.mark.parametrize("width", [24, 34, 40, 60, 80])
def test_question_shows_all_answers_at_every_width(width: int) -> None:
    hint = View(detach=True, stop=True).press_keys("q").read_hint(width=width + 10)
    assert all(answer in hint for answer in ("d detach", "s stop", "Esc back"))
    assert len(hint) <= width + 8


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_entry_shows_the_end_of_a_long_text(width: int) -> None:
    hint = View().press_keys("/" + "abcdefghi " * 6).read_hint(width=width)
    assert "ghi _" in hint
    assert len(hint) <= width - 2


def test_q_quits_a_replay_at_once() -> None:
    assert View(detach=True, replay=Replay(), viewing="replay").press_keys("q").left == 1


def test_key_that_leaves_must_arrive_alone() -> None:
    """It may be the end of a paste into a terminal that does not mark pastes."""
    view = View(detach=True, stop=True)
    view.keys.handle_key(Key("d", alone=False))
    view.keys.handle_key(Key("q", alone=False))
    assert (view.left, view.state.mode) == (0, Mode.LOG)
    view.press_keys("q")
    view.keys.handle_key(Key("s", alone=False))
    assert view.stopped == 0


def test_pasted_text_is_no_key_but_is_typed_into_an_entry() -> None:
    view = View(detach=True)
    view.keys.handle_key(Key("paste", "d\nq"))
    assert view.left == 0
    assert view.notes == ["pasted text is ignored; / opens a filter for text"]
    view.press_keys("/").keys.handle_key(Key("paste", "loss 2\nd"))
    assert view.flow.line_filter.text == "loss 2"


def test_s_opens_the_stacks_when_they_arrive() -> None:
    stacks = Stacks()
    view = View(stacks=stacks).press_keys("s")
    view.keys.update_stacks()
    assert (stacks.requests, view.state.overlay) == (1, WAITING_TEXT)
    stacks.lines = ["rank 5 (gpu03) is in load_batch (data.py:5)"]
    view.keys.update_stacks()
    assert list(view.state.overlay) == stacks.lines
    assert View().press_keys("s").notes == ["the stacks of the ranks cannot be read here"]


def test_keys_e_p_and_o_report_and_silence() -> None:
    view = View().press_keys("e")
    assert view.notes == ["no error so far"]
    run = History("gpu01", "gpu02", "node3").connect_hosts().start_hosts().add_output("gpu01", b"ValueError: x\n")
    for event in run.events:
        view.flow.process_event(event)
    assert view.press_keys("e").repeated == 1
    assert view.press_keys("p").state.overlay == ("gpu01 failed first",)
    assert view.press_keys("xo").filters == ["errors only"]
    assert view.press_keys("o").filters == []


def test_replay_keys_call_its_controls() -> None:
    replay = Replay()
    view = View(replay=replay, viewing="replay").press_names("left", "right", "[", "]", "home", "end", "+", "-", " ")
    assert replay.calls == [-10.0, 10.0, ("event", -1), ("event", 1), "start", "end", "faster", "slower", "pause"]
    assert view.notes == ["gpu02 failed"] * 2
    assert not view.state.paused


def test_omitted_lines_are_reported_with_their_file() -> None:
    assert describe_hidden_lines(0, "/x") == ""
    assert describe_hidden_lines(1, "/x").startswith("1 line of the log not shown")
    assert describe_hidden_lines(1, "/x").endswith("it is in /x")
    assert describe_hidden_lines(12345, "/x").endswith("all of them are in /x")
