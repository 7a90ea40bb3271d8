"""What each key does, without a terminal."""

from __future__ import annotations

import pytest

from fanout.logs.line_filters import DisplayFilters
from fanout.logs.pipeline import LogPipeline, describe_hidden_lines
from fanout.model.subscriber import Viewing
from fanout.ui.key_bindings import CTRL_C_HELP, DETACH_HELP, HELP, KeyBindings
from tests.histories import History
from tests.ui.goldens import build_heading


class Table:
    """A desk, and what it did."""

    def __init__(self, *, detach: bool = False, viewing: Viewing = "run") -> None:
        run = History("a", "b")
        self.flow = LogPipeline(build_heading(run.hosts), DisplayFilters(), fold="similar")
        self.notes: list[str] = []
        self.repeated = self.left = 0
        self.desk = KeyBindings(
            self.flow,
            note=self.notes.append,
            last_error=self._count_repeat,
            preview=lambda: ("gpu01 began it",),
            detach=self._count_leave if detach else None,
            viewing=viewing,
        )

    def _count_repeat(self) -> None:
        self.repeated += 1

    def _count_leave(self) -> None:
        self.left += 1

    def press_keys(self, keys: str) -> Table:
        for key in keys:
            self.desk.handle_key(key)
        return self


def test_f_goes_round_the_ways_of_folding() -> None:
    table, ways = Table(), []
    for _ in range(3):
        ways.append(table.press_keys("f").flow.folding.mode)
    assert ways == ["off", "exact", "similar"]


def test_a_shows_all_and_smart_again_also_from_single_ranks() -> None:
    table = Table()
    assert table.press_keys("a").flow.line_filter.show == "all"
    assert table.press_keys("a").flow.line_filter.show == "smart"
    assert table.press_keys("3").flow.line_filter.show == frozenset({3})
    assert table.press_keys("a").flow.line_filter.show == "all"


def test_a_does_not_promise_ranks_where_a_host_has_one_stream() -> None:
    table = Table().press_keys("a")
    assert table.notes == ["showing every line: each host has one stream, not one for each rank"]
    table.flow.streams.parts["a"] = {"0"}
    assert table.press_keys("a").notes[-1] == "showing rank 0, and warnings and errors of all"


def test_a_rank_outside_the_plan_is_reported() -> None:
    """The hosts of this table have 8 ranks each."""
    assert Table().press_keys("9").notes == ["showing rank 9 (a: show all ranks)"]
    (note,) = Table().press_keys("r16-20\r").notes
    assert note == "showing ranks 16-20, but this run has ranks 0-15 (a: show all ranks)"
    (note,) = Table().press_keys("r8-1\r").notes
    assert note == "8-1: '8-1' is not a rank"


@pytest.mark.parametrize(
    ("keys", "show"),
    [
        ("r0,8-9\r", frozenset({0, 8, 9})),
        ("r12\x7f3\n", frozenset({13})),
        ("r5\x1b", "smart"),
        ("r\r", "smart"),
        ("rfx,\r", "smart"),
        ("r" + "1" * 100 + "\r", "smart"),
    ],
)
def test_r_takes_ranks_until_enter(keys: str, show: object) -> None:
    """What is typed does nothing else meanwhile, and what is no rank changes nothing."""
    table = Table().press_keys(keys)
    assert table.flow.line_filter.show == show
    assert table.desk.key_hint.startswith("? help")


def test_the_row_shows_the_keys_within_80_columns_and_what_is_typed() -> None:
    assert len(Table(detach=True).press_keys("fa").desk.key_hint) < 79
    assert all(len(f"fanout: {line}") < 80 for line in (*HELP, *CTRL_C_HELP.values(), DETACH_HELP))
    assert "0,8_" in Table().press_keys("r0,8").desk.key_hint


def test_d_is_a_key_only_where_a_run_can_be_left() -> None:
    alone, leaving = Table().press_keys("d?"), Table(detach=True).press_keys("d?")
    assert (alone.left, leaving.left) == (0, 1)
    assert "d detach" in leaving.desk.key_hint
    assert "d detach" not in alone.desk.key_hint
    assert (DETACH_HELP in alone.notes, DETACH_HELP in leaving.notes) == (False, True)


def test_keys_e_p_and_q_report_and_silence() -> None:
    table = Table().press_keys("e")
    assert table.notes == ["no error so far"]
    run = History("a", "b").connect_hosts().start_hosts().add_output("a", b"ValueError: x\n")
    for event in run.events:
        table.flow.process_event(event)
    assert table.press_keys("e").repeated == 1
    assert table.press_keys("p").notes[-1] == "gpu01 began it"
    assert table.press_keys("q").desk.quiet
    assert not table.press_keys("q").desk.quiet


def test_omitted_lines_are_reported_with_their_file() -> None:
    assert describe_hidden_lines(0, "/x") == ""
    assert describe_hidden_lines(1, "/x").startswith("1 line of the log not shown")
    assert describe_hidden_lines(1, "/x").endswith("it is in /x")
    assert describe_hidden_lines(12345, "/x").endswith("all of them are in /x")


@pytest.mark.parametrize(
    ("viewing", "row", "words"),
    [
        ("run", "^C stop  d detach", "Ctrl-C stop the run"),
        ("attach", "^C leave  a all", "Ctrl-C leave; the run continues"),
        ("replay", "^C quit  d detach", "Ctrl-C quit the replay"),
    ],
)
def test_the_row_and_the_help_describe_ctrl_c_in_this_view(viewing: Viewing, row: str, words: str) -> None:
    table = Table(detach=True, viewing=viewing).press_keys("?")
    assert row in table.desk.key_hint
    assert len(table.desk.key_hint) < 80
    assert (
        [note for note in table.notes if note.startswith("Ctrl-C")]
        == [note for note in table.notes if note.startswith(words)]
        != []
    )
