"""Small parts of the views: display mode, metrics in lines, units, tables, folded output."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.logs import metric_line
from fanout.logs.demux import LogLine, format_label
from fanout.logs.metric_line import MetricReading
from fanout.logs.metrics import MetricTracker
from fanout.logs.run_progress import RunProgress, draw_sparkline
from fanout.logs.tail import LogTails
from fanout.model.errors import UsageError
from fanout.model.settings import Settings
from fanout.model.subscriber import View
from fanout.record.run_writer import RunWriter
from fanout.text.paint import Painter
from fanout.text.table import count_columns, format_table
from fanout.text.units import (
    count_noun,
    format_age,
    format_binary_size,
    format_clock,
    format_count,
    format_duration,
    format_size,
)
from fanout.ui.display_mode import choose_display_mode
from fanout.ui.grouped_output import GroupedOutput, HostOutput, OutputGroup, format_groups, group_outputs
from fanout.ui.json_lines import JsonLines
from fanout.ui.live_view import LiveView
from fanout.ui.plain_view import PlainView
from fanout.ui.waiting_line import WaitingLine
from tests.histories import History
from tests.ui.goldens import build_heading

XTERM = {"TERM": "xterm-256color"}


@pytest.mark.parametrize(
    ("environ", "isatty", "mode", "colour"),
    [
        (XTERM, True, "live", True),
        (XTERM, False, "plain", False),
        ({"TERM": "dumb"}, True, "plain", False),
        ({}, True, "plain", False),
        ({**XTERM, "CI": "true"}, True, "plain", True),
        ({**XTERM, "CI": "false"}, True, "live", True),
        ({**XTERM, "NO_COLOR": "1"}, True, "live", False),
        ({**XTERM, "NO_COLOR": ""}, True, "live", True),
        ({**XTERM, "NO_COLOR": "1", "FORCE_COLOR": "1"}, True, "live", False),
        ({**XTERM, "FORCE_COLOR": "1"}, False, "plain", True),
        ({**XTERM, "CLICOLOR_FORCE": "1"}, False, "plain", True),
        ({**XTERM, "CLICOLOR": "0"}, True, "live", False),
    ],
)
def test_display_mode_follows_from_the_environment(
    environ: Mapping[str, str], isatty: bool, mode: str, colour: bool
) -> None:
    look = choose_display_mode(environ, isatty=isatty)
    assert (look.mode, look.colour) == (mode, colour)


def test_flags_win_over_the_environment() -> None:
    assert choose_display_mode({**XTERM, "NO_COLOR": "1"}, isatty=True, settings=Settings(color="always")).colour
    assert choose_display_mode(XTERM, isatty=True, settings=Settings(output="json")).mode == "json"
    assert not choose_display_mode(XTERM, isatty=True, settings=Settings(color="never")).colour


def test_live_without_a_terminal_is_refused_and_never_silently_plain() -> None:
    with pytest.raises(UsageError, match="terminal"):
        choose_display_mode(XTERM, isatty=False, settings=Settings(output="live"))


@pytest.mark.parametrize(("encoding", "unicode"), [("UTF-8", True), ("utf8", True), ("ascii", False), (None, False)])
def test_symbols_need_utf8(encoding: str | None, unicode: bool) -> None:
    assert choose_display_mode(XTERM, isatty=True, encoding=encoding).unicode is unicode


@pytest.mark.parametrize(
    ("environ", "unicode"),
    [
        ({}, True),
        ({"LANG": "C"}, False),
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, False),
        ({"LC_ALL": "C.UTF-8"}, True),
        ({"LC_CTYPE": "POSIX"}, False),
        ({"LC_ALL": "", "LANG": "en_US.UTF-8"}, True),
    ],
)
def test_an_explicit_c_locale_means_ascii(environ: Mapping[str, str], unicode: bool) -> None:
    """Python itself takes it for UTF-8; a container without a locale may be shown symbols."""
    assert choose_display_mode({**XTERM, **environ}, isatty=True, encoding="utf-8").unicode is unicode


def test_labels_name_the_rank_where_there_is_one() -> None:
    assert [format_label("gpu01", ""), format_label("gpu01", "rank 5"), format_label("gpu01", "setup")] == [
        "gpu01",
        "gpu01:5",
        "gpu01:setup",
    ]


def test_a_pattern_of_ones_own_finds_the_figures() -> None:
    pattern = re.compile(r"it (?P<step>\d+) of (?P<total>[\d,]+): nll=(?P<loss>\S+)")
    assert metric_line.parse_line("it 5 of 1,000: nll=2.5", pattern) == MetricReading(step=5, total=1000, loss=2.5)
    assert metric_line.parse_line("step 5 loss 3", pattern) is None
    named = metric_line.parse_line("step 5 acc 0.75", re.compile(r"step (?P<step>\d+) acc (?P<acc>[\d.]+)"))
    assert named == MetricReading(step=5, others={"acc": 0.75})
    assert metric_line.parse_line("it 5 of 10: nll=high", pattern) is None
    assert metric_line.parse_line("ppl 12.5", re.compile(r"ppl ([\d.]+)")) == MetricReading(loss=12.5)


def test_figures_of_a_host_come_from_one_stream_and_a_line_adds_to_what_is_known() -> None:
    """The Trainer's bar has the step and its dict the loss; the other ranks print the same or less."""
    course = MetricTracker()
    course.add_lines([LogLine("h", 1, "h:0", "bar", "10%|█  | 10/100 [00:01<00:09]", 0, 0)], 1.0)
    course.add_lines([LogLine("h", 2, "h:0", "line", "{'loss': 2.5, 'epoch': 0.1}", 0, 0)], 2.0)
    course.add_lines([LogLine("h", 3, "h:1", "line", "step 999 loss 9.9", 0, 1)], 3.0)
    assert course.host_readings == {"h": MetricReading(step=10, total=100, loss=2.5, epoch=0.1, is_bar=True)}
    assert (course.run_progress.step, course.run_progress.loss) == (10, 2.5)


def test_metrics_are_read_on_demand_and_newest_first() -> None:
    """A figure that the newest lines do not say stays as an earlier look found it."""
    course = MetricTracker()
    course.add_lines([LogLine("h", 0, "h", "line", "step 1/5000 loss 9.5", 0, -1)], 1.0)
    assert course.host_readings["h"].total == 5000
    for step in range(2, 3000):
        course.add_lines([LogLine("h", 0, "h", "line", f"step {step} loss 2.5 tok/s 7", 0, -1)], step / 100)
    assert course.host_readings == {"h": MetricReading(step=2999, total=5000, loss=2.5, speed=7.0)}
    pattern = MetricTracker(re.compile(r"acc (?P<acc>[\d.]+)"))
    pattern.add_lines([LogLine("h", 0, "h", "line", text, 0, -1) for text in ("acc 0.5", *["step 1 loss 2"] * 50)], 1.0)
    assert pattern.run_progress.others == {"acc": 0.5}


@given(st.lists(st.floats(-1e6, 1e6), max_size=100), st.integers(1, 40))
def test_a_curve_fits_its_width_and_shows_both_ends_of_the_scale(values: list[float], width: int) -> None:
    curve = draw_sparkline(values, width)
    assert len(curve) == min(len(values), width)
    if len(set(values)) > 1 and len(values) <= width:
        assert {curve[values.index(min(values))], curve[values.index(max(values))]} == {"▁", "█"}


def test_a_long_run_keeps_a_short_curve() -> None:
    progress = RunProgress(keep=16)
    for step in range(10_000):
        progress.add_reading(MetricReading(step=step, loss=float(10_000 - step)), at=float(step))
    curve = progress.draw_loss_curve(8)
    assert (len(curve), curve[0], curve[-1]) == (8, "█", "▁")
    assert list(curve) == sorted(curve, reverse=True)


def test_units_read_well() -> None:
    assert [format_duration(v) for v in (0.31, 9.94, 41, 723, 4446, 180_000)] == [
        "0.3 s",
        "9.9 s",
        "41 s",
        "12 min 3 s",
        "1 h 14 min",
        "2 d 2 h",
    ]
    assert [format_clock(v) for v in (0, 4364, 90_000)] == ["00:00:00", "01:12:44", "1d 01:00:00"]
    assert [format_size(v) for v in (812, 1000, 999_600, 1_234_567, 5 * 10**11)] == [
        "812 B",
        "1.0 kB",
        "1.0 MB",
        "1.2 MB",
        "500 GB",
    ]
    assert [count_noun(v, "host") for v in (0, 1, 1200)] == ["0 hosts", "1 host", "1,200 hosts"]
    assert count_noun(2, "process") == "2 processes"
    assert [format_count(v) for v in (812, 38_200, 999_600, 2_000_000_000)] == ["812", "38.2k", "1.0M", "2.0G"]
    assert [format_age(v) for v in (0.3, 21.9, 180, 10_000)] == ["now", "21 s", "3 min", "2 h"]


def test_a_table_is_aligned_and_its_cells_are_harmless() -> None:
    lines = format_table(
        [["gpu01", "8", "\x1b[31mred\nx"], ["g", "16"]], header=["host", "gpus", "note"], right=frozenset({1})
    )
    assert lines == ["host   gpus  note", "gpu01     8  red\\x0ax", "g        16"]


def test_a_table_has_the_given_width_and_marks_its_cuts() -> None:
    lines = format_table([["a" * 60, "b" * 60, "ok"]], width=80)
    assert len(lines[0]) == 80
    assert lines[0].count("…") == 2
    assert lines[0].endswith("ok")


def test_a_column_that_must_stay_whole_is_never_cut() -> None:
    """An id that is cut cannot be typed: another column gives way, and the line becomes too wide where none can."""
    ident = "20261129-195737-3075c0ffee12"
    assert format_table([[ident, "b" * 60]], whole=frozenset({0}), width=60)[0].startswith(f"{ident}  bbb")
    assert len(format_table([[ident, "b" * 60]], whole=frozenset({0}), width=60)[0]) == 60
    assert format_table([[ident, "ok"]], whole=frozenset({0}), width=20) == [f"{ident}  ok"]


def test_wide_characters_take_two_columns() -> None:
    assert count_columns("日本a\u0301") == 5
    assert format_table([["日本", "x"], ["abcd", "y"]]) == ["日本  x", "abcd  y"]


def test_sizes_in_powers_of_1024_have_one_letter() -> None:
    assert [format_binary_size(v) for v in (4, 1 << 16, 1 << 20, 80 << 30, 999 << 30, 1000 << 30, 1 << 50)] == [
        "4",
        "64K",
        "1.0M",
        "80G",
        "999G",
        "1.0T",
        "1024T",
    ]


@given(st.dictionaries(st.sampled_from([f"h{n}" for n in range(20)]), st.lists(st.sampled_from("ab"), max_size=3)))
def test_folding_loses_no_host_and_no_line(outputs: dict[str, list[str]]) -> None:
    groups = group_outputs(HostOutput(host=host, lines=tuple(lines)) for host, lines in outputs.items())
    assert {host: list(group.lines) for group in groups for host in group.hosts} == outputs
    assert len({group.lines for group in groups}) == len(groups)


def test_equal_output_is_printed_once() -> None:
    out, err = io.StringIO(), io.StringIO()
    run = History("h1", "h2", "h3", "h4").connect_hosts().start_hosts()
    for host in ("h1", "h3", "h2"):
        run.add_output(host, b"Linux 6.8").add_output(host, b".0\n")
    run.add_output("h4", b"uname: not found\n").end_hosts("h4", code=127).end_hosts("h1", "h2", "h3").pass_time(1.0)
    view = GroupedOutput(build_heading(run.hosts), stdout=out, stderr=err)
    run.play_events(view)
    assert out.getvalue() == ""
    view.close()
    view.close()
    assert out.getvalue() == "h[1-3] (3)  Linux 6.8.0\nh4          exit 127: uname: not found\n"
    assert err.getvalue() == ""


def test_output_of_several_lines_is_a_block_for_every_group() -> None:
    groups = [
        OutputGroup(hosts=("h1", "h2"), lines=("a", "b"), end=""),
        OutputGroup(hosts=("h3",), lines=(), end="exit 1"),
    ]
    rule = "-" * 15
    lines = [rule, "h[1-2] (2)", rule, "a", "b", rule, "h3  exit 1", rule, "(no output)"]
    assert format_groups(groups, Painter(False)).splitlines() == lines
    assert format_groups(groups[1:], Painter(False)) == "h3  exit 1\n"


def test_a_terminal_shows_which_hosts_exec_waits_for() -> None:
    """The line appears after a second, and is gone before the view prints a message and at the end."""
    terminal = TerminalStream()
    line = WaitingLine(terminal, 80)
    run = History("gpu01", "gpu02", "gpu03").connect_hosts().start_hosts()
    run.play_events(line)
    assert terminal.getvalue() == ""
    run.end_hosts("gpu01").pass_time(14.0).play_events(line)
    assert re.search(r"\r\x1b\[K1/3 hosts have ended, \d+ s; waiting for gpu\[02-03\]$", terminal.getvalue())
    line.clear()
    assert terminal.getvalue().endswith("\r\x1b[K")
    piped = io.StringIO()
    run.play_events(WaitingLine(piped, 80), WaitingLine(terminal, 80, shown=False))
    assert piped.getvalue() == ""


class TerminalStream(io.StringIO):
    """Stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_every_view_is_a_view(tmp_path: Path) -> None:
    """All of them take notes and events side by side, can be closed twice, and none is broken by it."""
    run, out = History("h1", "h2").connect_hosts().start_hosts().add_output("h1", b"x\n").pass_time(1.0), io.StringIO()
    head = build_heading(run.hosts)
    views: list[View | RunWriter | LogTails] = [
        PlainView(head, stdout=out, stderr=out),
        LiveView(head, stdout=out, size=lambda: (80, 24)),
        JsonLines(head, stdout=out),
        GroupedOutput(head, stdout=out, stderr=out),
        RunWriter(str(tmp_path / "run"), head),
        LogTails(),
    ]
    for view in views:
        view.note("a word")
    run.play_events(*views)
    for view in [*views, *views]:
        view.close()
    assert not any(view.broken for view in views)


def test_rich_is_loaded_only_when_the_live_view_begins() -> None:
    code = (
        "import sys, fanout.ui.live_view, fanout.ui.run_report, fanout.ui.json_lines; sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
